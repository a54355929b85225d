"""Marks with which data says that a row, or a turn of a conversation, is not to be learned.

    weight: 0        OpenAI's fine-tuning format, of a turn; also of a row
    train: false     axolotl's, and `training`; of a turn or of a row, also `trainable`, `loss_mask` and `loss_weight`
    loss: false      ms-swift's, of a turn; a column of that name may be a number
    masked: true
    label: false     TRL's preferences without pairs, of a row

Only all or nothing is read: a weight between 0 and 1 is refused. The letter case of columns does not matter.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LEARNED = ("weight", "train", "training", "trainable", "loss_mask", "loss_weight")  # that say yes or no
OF_TURNS = (*LEARNED, "loss")
MASKED = ("masked",)  # those that say the opposite
PARTS = ("train_detail", "training_detail")  # axolotl's marks within a turn
PREFERENCES = (("chosen", "rejected"), ("preferred_output", "non_preferred_output"))  # columns: the better, the worse
WORDS = {"1": True, "1.0": True, "true": True, "yes": True, "0": False, "0.0": False, "false": False, "no": False}


def is_learned(row: Mapping[str, Any], marks: Sequence[str] = LEARNED) -> bool:
    """Return whether the marks of a row or a turn let it be learned. Raise ValueError for one of neither yes nor no."""
    said = [_says(row, name) for name in marks] + [_says(row, name, opposite=True) for name in MASKED]
    if parts := [name for name in PARTS if filled(row.get(name))]:
        raise ValueError(f"{parts[0]!r} marks parts of a turn; only whole turns are read, divide it or remove the key")
    return False not in said


def mark_of(row: Mapping[str, Any]) -> str:
    """Return the key that says that a row is not to be learned, with its value: `weight: 0`."""
    names = [name for name in LEARNED if _says(row, name) is False]
    names += [name for name in MASKED if _says(row, name, opposite=True) is False]
    return f"{names[0]}: {str(row[names[0]]).lower()}"


def unwanted(row: Mapping[str, Any]) -> bool | None:
    """Return whether TRL's `label` says that nobody wants the answer; None if it is no mark, as a number is none."""
    said = str(row.get("label")).strip().lower()
    return not WORDS[said] if said in ("true", "false") else None


def lower_case(row: Any, names: Iterable[str]) -> Any:
    """Return a row in which these columns have names in lower case, as a table's may be `Input`.

    Columns that differ in letter case alone stay as they are, and so does what is no object.
    """
    if not isinstance(row, Mapping):
        return row
    lower = [str(name).lower() for name in row]
    once = {name for name in names if lower.count(name) == 1}
    return {low if low in once else name: row[name] for low, name in zip(lower, row, strict=True)}


def preferences(names: Iterable[Any]) -> str:
    """Say so if columns hold a better and a worse reply, and what takes them; else return an empty text."""
    columns = {str(name).lower(): str(name) for name in names}
    for better, worse in PREFERENCES:
        if {better, worse} <= {*columns}:
            return (
                f"columns {columns[better]!r} and {columns[worse]!r} are preferences, which only sweeps/strategyqa.py"
                " learns (--phase dpo --task.pairs FILE); to learn the better replies, make them the answers (a column"
                f" 'completion', or the last turn), and remove {columns[worse]!r}"
            )
    return ""


def mark_columns(rows: Sequence[Mapping[str, Any]], used: Iterable[str] = ()) -> list[str]:
    """Return the columns that mark rows: those in which every cell says yes or no, as a `weight` may be in kilograms.

    `used`: columns with another meaning.
    """

    def says(cell: Any) -> bool:
        return not filled(cell) or str(cell).strip().lower() in WORDS

    names = dict.fromkeys(name for row in rows for name in row if str(name).lower() in (*LEARNED, *MASKED))
    return [name for name in names if name not in {*used} and all(says(row.get(name)) for row in rows)]


def unlearned(rows: Sequence[Mapping[str, Any]], marks: Sequence[str]) -> dict[int, str]:
    """Return the places of rows that are not to be learned, each with its first mark: `Weight: 0`."""
    found: dict[int, str] = {}
    for place, row in enumerate(rows):
        said = [name for name in marks if not is_learned({name.lower(): row.get(name)})]
        if said:
            found[place] = f"{said[0]}: {str(row[said[0]]).lower()}"
    return found


def not_read(columns: Counter[str]) -> list[str]:
    """Return a line that names columns that are not read, each with the rows in which it holds something."""
    counts = ", ".join(f"{name!r} ({count:,} rows)" for name, count in columns.most_common())
    return [f"not read: columns {counts}"] if counts else []


def filled(value: Any) -> bool:
    """Return whether a cell holds anything: tables and JSON have empty ones in many forms."""
    if isinstance(value, str):
        return bool(value.strip())
    return not (value is None or (isinstance(value, float) and math.isnan(value)) or value in ([], {}))


def unread(row: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Return the names of what a row or a turn holds beside what is known; empty cells hold nothing."""
    return [str(name) for name, value in row.items() if name not in {*known} and filled(value)]


def _says(row: Mapping[str, Any], name: str, opposite: bool = False) -> bool | None:
    """Return True for "learn it", False for "do not", None where there is no mark."""
    value = row.get(name)
    if not filled(value):
        return None
    said = WORDS.get(str(value).strip().lower())
    if said is None:
        raise ValueError(f"{name!r} is {str(value)[:40]!r}; only 0, 1, true and false are read: rename or remove it")
    return said != opposite
