"""Recognise the split of a file, or of a part of a data set, by its name: `sft.val.jsonl`, `test-00000-of-00001`.

A part in the wrong split makes every score wrong without an error. So if some names state a split, all must. Where no
name does, a hash of each question decides (`hash_fraction`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

Official = Literal["train", "validation", "test"]
WORDS: dict[Official, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "validate", "valid", "val", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tests", "heldout", "holdout"),
}
SPLIT = "split"  # the column that is looked for
RENAME = "rename it to one of train, validation and test, or move it away"


def hash_fraction(text: str) -> float:
    """Return a number in [0, 1) that depends on the text alone, on every machine and in every run."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def splits_of(names: Sequence[str], remedy: str) -> list[Official] | None:
    """Return the split of each name; None if no name states one.

    Raises ValueError in one line, which ends with `remedy`, for a name that states two splits, and for a name that
    states none where others do.
    """
    stated = [_stated(name) for name in names]
    for name, splits in zip(names, stated, strict=True):
        if len(splits) > 1:
            raise ValueError(f"{name}: the name says {' and '.join(splits)}; {remedy}")
        if not splits and any(stated):
            raise ValueError(f"which split is {name}? Its name says none, and others do; {remedy}")
    return [splits[0] for splits in stated] if any(stated) else None


def split_column(names: Sequence[str]) -> str:
    """Return the column called `split`, or else the only one that is called so in another letter case; empty: none."""
    alike = [name for name in names if name.lower() == SPLIT]
    return SPLIT if SPLIT in alike else alike[0] if len(alike) == 1 else ""


def splits_in_column(values: Sequence[str]) -> list[Official] | None:
    """Return the split that each row's cell states; None if a cell states none or two, so it is no such column."""
    stated = {value: _stated(value) for value in {*values}}
    return [stated[value][0] for value in values] if all(len(own) == 1 for own in stated.values()) else None


def _stated(name: str) -> list[Official]:
    """Return the splits that the words of a name state; `devset` and `held-out` are words, too."""
    joined = re.sub(r"(held|hold)[-_. ]out", r"\1out", name.lower())
    words = {word.removesuffix("set") for word in re.findall(r"[a-z]+", joined)}
    return [split for split, own in WORDS.items() if words & {*own}]
