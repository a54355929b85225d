"""Compare texts apart from letter case, spaces and punctuation, and find near-duplicates.

Nothing else is ignored: `a + b` is not `a - b`, 3.5 is not 35, and the vowel signs of Hindi are no punctuation.
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
    """Normalise a text: case, spaces and punctuation are removed; empty for a text without words."""
    return " ".join(PUNCTUATION.sub(" ", unicodedata.normalize("NFC", text).casefold()).split())


def shingles(text: str) -> set[str]:
    """Return a text's shingles of three neighbouring words (Broder 1997); a shorter text is one shingle."""
    words = plain(text).split()
    return {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def copies(originals: Sequence[str], texts: Sequence[str], least: int, most: int | None = None) -> dict[int, int]:
    """Find texts that contain an original or are contained in one: text index -> index of its first original.

    All shingles of the shorter text must be in the other, or nine of ten if it is long. Shingles in more than one of
    twenty originals belong to a template and do not count; at least `least` others must remain. A text that is in more
    than `most` originals is a common phrase and is not reported.
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
