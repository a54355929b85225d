"""Load conversations from a file (.jsonl, .json, .csv, .tsv, .parquet), a folder of them, or a data set of the hub.

A file's layout is recognised by its columns (`rows.py`). The names of a folder's files and of a data set's parts state
their split (`files/splits.py`), else a column called `split`; if neither does, all is training data. Every fault raises
a ValueError of one line that names the file and the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.tasks.chat.rows import READ, Conversation, Layout, conversation, layout_of
from trainables.tasks.chat.turns import BrokenRow, Notes
from trainables.tasks.files.marks import lower_case
from trainables.tasks.files.records import BadLine
from trainables.tasks.files.source import Part, parts_of
from trainables.tasks.files.splits import SPLIT, Official, splits_in_column

WITHIN = "data"  # the list that is read of a .json file that holds an object


@dataclass(frozen=True)
class Loaded:
    """The conversations by official split, without empty ones, and lines that say what is left out or not read."""

    splits: Mapping[Official, tuple[Conversation, ...]]
    lines: tuple[str, ...]


def load(data: str, tools: bool = True) -> Loaded:
    """Return the conversations of `data`, a path or `hub:OWNER/NAME`; one file alone is `train`.

    `tools`: whether conversations with tools are read.

    Raises ValueError for unreadable files and for the first broken row, with the number of the others.
    """
    found, notes = parts_of(data, WITHIN, besides="'generated', "), Notes()
    splits: dict[Official, tuple[Conversation, ...]] = {}
    for part in found.parts:
        for split, own in _conversations(part, notes, tools).items():
            splits[split] = splits.get(split, ()) + tuple(own)
    lines = (*found.lines, *notes.lines())
    if not splits:
        raise ValueError(f"data='{data}' has no conversation to learn; {'; '.join(lines)}")
    if "train" not in splits:
        raise ValueError(f"data='{data}' has no training rows, only {', '.join(splits)}; name one train")
    return Loaded(splits, lines)


def _conversations(part: Part, notes: Notes, tools: bool) -> dict[Official, list[Conversation]]:
    if not part.rows:
        raise ValueError(f"{part.where}: holds no rows; give at least one conversation")
    made: dict[Official, list[Conversation]] = {}
    faults: list[str] = []
    layout: Layout | None = None
    rows = [lower_case(row, (*READ, SPLIT)) for _, row in part.rows]
    columns = None if part.split else _stated_by_rows(rows)
    for index, ((place, _), row) in enumerate(zip(part.rows, rows, strict=True)):
        try:
            if isinstance(row, BadLine):
                raise BrokenRow(str(row))
            layout = layout or layout_of(row)
            one = conversation(row, layout, notes, (SPLIT,) if columns else (), f"{part.where}, {place}")
            if one and one.uses_tools and not tools:
                notes.left_out["with tools, which a base's chat template or --task.no-tools leaves out"] += 1
            elif one:
                made.setdefault(columns[index] if columns else part.split or "train", []).append(one)
        except BrokenRow as error:
            faults.append(f"{part.where}, {place}: {error}")
    if faults:
        others = f" (and {len(faults) - 1} more broken rows)" if faults[1:] else ""
        raise ValueError(faults[0] + others)
    return made


def _stated_by_rows(rows: list[Any]) -> list[Official] | None:
    """Return what the column `split` says of each row; None if it does not say it of all."""
    if not all(isinstance(row, Mapping) and isinstance(row.get(SPLIT), str) for row in rows):
        return None
    return splits_in_column([row[SPLIT] for row in rows])
