"""Marks with which data says that a row, or a turn of a conversation, is not to be learned.

    weight: 0        OpenAI's fine-tuning format, of a turn; also of a row
    train: false     axolotl's, and `training`; of a turn or of a row
    masked: true

Only all or nothing is read: a weight between 0 and 1 is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

LEARNED = ("weight", "train", "training")  # columns and keys that say yes or no
MASKED = ("masked",)  # those that say the opposite
PARTS = ("train_detail", "training_detail")  # axolotl's marks within a turn
WORDS = {"1": True, "1.0": True, "true": True, "yes": True, "0": False, "0.0": False, "false": False, "no": False}


def is_learned(row: Mapping[str, Any]) -> bool:
    """Return whether a row's marks let it be learned. Raise ValueError for a mark that says neither yes nor no."""
    said = [_says(row, name) for name in LEARNED] + [_says(row, name, opposite=True) for name in MASKED]
    if parts := [name for name in PARTS if filled(row.get(name))]:
        raise ValueError(f"{parts[0]!r} marks parts of a turn; only whole turns are read, divide it or remove the key")
    return False not in said


def mark_of(row: Mapping[str, Any]) -> str:
    """Return the key that says that a row is not to be learned, with its value: `weight: 0`."""
    names = [name for name in LEARNED if _says(row, name) is False]
    names += [name for name in MASKED if _says(row, name, opposite=True) is False]
    return f"{names[0]}: {str(row[names[0]]).lower()}"


def filled(value: Any) -> bool:
    """Return whether a cell holds anything: tables and JSON have empty ones in many forms."""
    return not (value is None or (isinstance(value, float) and math.isnan(value)) or value in ("", [], {}))


def _says(row: Mapping[str, Any], name: str, opposite: bool = False) -> bool | None:
    """Return True for "learn it", False for "do not", None where there is no mark."""
    value = row.get(name)
    if not filled(value):
        return None
    said = WORDS.get(str(value).strip().lower())
    if said is None:
        raise ValueError(f"{name!r} is {str(value)[:40]!r}; only 0, 1, true and false are read: rename or remove it")
    return said != opposite
