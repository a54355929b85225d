"""When two texts say the same: but for letter case, spaces and the punctuation of sentences; and when nearly the same.

Nothing else is left out: `a + b` is not `a - b`, 3.5 is not 35, and the vowel signs of Hindi are no punctuation.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

MARKS = r"[.,!?;:\"'“”‘’]"
PUNCTUATION = re.compile(rf"(?<!\d){MARKS}|{MARKS}(?!\d)")  # not between two digits
SHINGLE = 3  # words in a piece
LONG = 20  # pieces from which a word more or less is no other text; below it a template with another name would be
TEMPLATE, FEW = 0.05, 5  # a piece in more than this share of the originals, and in more than so few, is a template's


def plain(text: str) -> str:
    """What texts that say the same have in common; empty where nothing is said."""
    return " ".join(PUNCTUATION.sub(" ", unicodedata.normalize("NFC", text).casefold()).split())


def shingles(text: str) -> set[str]:
    """Its pieces of three neighbouring words; a shorter text is one piece (Broder 1997)."""
    words = plain(text).split()
    return {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def copies(originals: Sequence[str], texts: Sequence[str], least: int, most: int | None = None) -> dict[int, int]:
    """Which texts hold an original, or lie in one: their places, each with the place of its first original.

    Every piece of the shorter one is in the other, or nine of ten where it is long. Pieces that one in twenty originals
    share are a template and say nothing, and what is left must be `least` pieces. Text that is in more than `most`
    originals is a formula that anybody may say.
    """
    known = [shingles(text) for text in texts]
    asked = set().union(*known)
    read = [(len(pieces), pieces & asked) for pieces in map(shingles, originals)]
    counts = Counter(piece for _, pieces in read for piece in pieces)
    template = {piece for piece, count in counts.items() if count > max(FEW, TEMPLATE * len(originals))}
    sizes, where = [], defaultdict[str, list[int]](list)
    for place, pieces in enumerate(known):
        sizes.append(len(pieces - template))
        for piece in pieces - template:
            where[piece].append(place)
    found: dict[int, list[int]] = defaultdict(list)
    for origin, (size, pieces) in enumerate(read):
        own = pieces - template
        rest = size - len(pieces) + len(own)
        for place, shared in Counter(place for piece in own for place in where[piece]).items():
            shorter = min(rest, sizes[place])
            if shorter >= least and shared >= shorter - (shorter // 10 if shorter >= LONG else 0):
                found[place].append(origin)
    return {place: origins[0] for place, origins in sorted(found.items()) if len(origins) <= (most or len(originals))}
