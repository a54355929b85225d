"""When two texts say the same: but for letter case, spaces and the punctuation of sentences.

Nothing else is left out: `a + b` is not `a - b`, 3.5 is not 35, and the vowel signs of Hindi are no punctuation.
"""

from __future__ import annotations

import re
import unicodedata

MARKS = r"[.,!?;:\"'“”‘’]"
PUNCTUATION = re.compile(rf"(?<!\d){MARKS}|{MARKS}(?!\d)")  # not between two digits


def plain(text: str) -> str:
    """What texts that say the same have in common; empty where nothing is said."""
    return " ".join(PUNCTUATION.sub(" ", unicodedata.normalize("NFC", text).casefold()).split())
