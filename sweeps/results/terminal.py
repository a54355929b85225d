"""Print text without control characters, as `rich` replaces `print`: `from sweeps.results.terminal import print`.

Texts of data, servers, models and other people's folders may hold escape sequences. A terminal obeys them: they clear
lines, change its title, or make it type. tests/test_laws.py checks that every file of `sweeps` that prints does so by
this function.
"""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Mapping
from typing import Any

SCHEMA = 1  # the version of results/output.schema.json, which says what `--json` prints

# C0 without tab and newline, DEL and C1; then what reverses the order of text, and halves of a character, which no
# terminal can be sent.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return the text with control characters written out, as `\\x1b`. Tabs and newlines stay."""
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def print(*values: object, **options: Any) -> None:
    """Print the values like Python's own function, with control characters written out."""
    builtins.print(*(printable(str(value)) for value in values), **options)


def print_json(command: str, facts: Mapping[str, Any]) -> None:
    """Print what a command found as one line of JSON: ASCII, so no terminal obeys it, and without NaN."""
    builtins.print(json.dumps({"schema": SCHEMA, "command": command, **facts}, allow_nan=False, default=str))
