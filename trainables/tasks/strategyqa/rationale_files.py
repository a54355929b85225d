"""Read files of rationales and of preference pairs for the training questions, by key.

`espalier rationales` writes both, one JSON object per line. Every fault of a file raises a ValueError of one line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from trainables.home import expanded
from trainables.tasks.files.records import BadLine, read


@dataclass(frozen=True)
class Rationale:
    """A row of a `rationales` file; `weight` is its example's weight in the loss."""

    rationale: str
    weight: float = 1.0


@lru_cache(maxsize=4)
def load_rationales(path: str) -> Mapping[str, Rationale]:
    """Return the rows of a `rationales` file by key. Raise ValueError in one line."""
    found: dict[str, Rationale] = {}
    for where, key, row in _keyed(path, "rationales", "rationale"):
        weight = row.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(f"{where} has the weight {weight!r}; write a finite number of 0 or more")
        found[key] = Rationale(row["rationale"].strip(), float(weight))
    return found


@lru_cache(maxsize=4)
def load_pairs(path: str) -> Mapping[str, tuple[str, str]]:
    """Return (chosen, rejected) by key from a file of `espalier rationales --pairs`. Raise ValueError in one line."""
    found: dict[str, tuple[str, str]] = {}
    for where, key, row in _keyed(path, "pairs", "chosen", "rejected"):
        chosen, rejected = row["chosen"].strip(), row["rejected"].strip()
        if chosen == rejected:
            raise ValueError(f"{where} prefers a completion to itself; repair or remove it")
        found[key] = (chosen, rejected)
    return found


def _keyed(path: str, field: str, *needs: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the place, key and row of a JSONL file that a task's field names. Raise ValueError for a missing text."""
    file, keys = expanded(path), set[str]()
    if not file.is_file():
        raise ValueError(f"{field}='{path}' is no file; give JSONL rows of key, {', '.join(needs)}, or leave it empty")
    for place, row in read(file):
        if isinstance(row, BadLine):
            raise ValueError(f"{file}: {place}: {row}")
        texts = [row.get(name) if isinstance(row, dict) else None for name in ("key", *needs)]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"{file}: {place} needs a key, {', '.join(needs)}, all of them text; repair or remove it")
        if row["key"] in keys:
            raise ValueError(f"{file}: {place} has the key {row['key']!r} again; keep one row for each question")
        keys.add(row["key"])
        yield f"{file}: {place}", row["key"], row
