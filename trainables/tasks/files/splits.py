"""Which split a file, or a part of a data set, is by its name: `sft.val.jsonl`, `test-00000-of-00001`, `train_sft`.

A part that is taken for the wrong split ruins every score without a word, so where some names say a split all must.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Official = Literal["train", "validation", "test"]
WORDS: dict[Official, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "validate", "valid", "val", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tests", "heldout", "holdout"),
}
RENAME = "rename it to one of train, validation and test, or move it away"


def splits_of(names: Sequence[str], remedy: str) -> list[Official] | None:
    """The split of each; None where no name says one.

    Raises ValueError in one line, which ends with the remedy, for a name that says none beside others that do, and for
    one that says two.
    """
    said = [_said(name) for name in names]
    for name, splits in zip(names, said, strict=True):
        if len(splits) > 1:
            raise ValueError(f"{name}: the name says {' and '.join(splits)}; {remedy}")
        if not splits and any(said):
            raise ValueError(f"which split is {name}? Its name says none, and others do; {remedy}")
    return [splits[0] for splits in said] if any(said) else None


def _said(name: str) -> list[Official]:
    """Its words are letters; `devset` is one of them, and so is `held-out`."""
    joined = re.sub(r"(held|hold)[-_. ]out", r"\1out", name.lower())
    words = {word.removesuffix("set") for word in re.findall(r"[a-z]+", joined)}
    return [split for split, own in WORDS.items() if words & {*own}]
