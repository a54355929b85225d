"""Load conversations from a file (.jsonl, .json, .parquet), a folder of such files, or a data set of the hub.

A file's layout is recognised by its columns (`rows.py`). The names of a folder's files and of a data set's parts state
their split (`files/splits.py`); if no name does, all is training data. Every fault raises a ValueError of one line that
names the file and the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trainables.tasks.chat.rows import BrokenRow, Conversation, conversation, layout_of
from trainables.tasks.files.records import HUB, SUFFIXES, BadLine, Rows, from_hub, read
from trainables.tasks.files.splits import RENAME, Official, splits_of


def load(data: str) -> dict[Official, tuple[Conversation, ...]]:
    """Return the official splits of `data`, a path or `hub:OWNER/NAME`; one file alone is `train`. Empty ones are left
    out.

    Raises ValueError for unreadable files and for the first broken row, with the number of the others.
    """
    parts = _hub(data) if data.startswith(HUB) else _path(data)
    splits: dict[Official, tuple[Conversation, ...]] = {}
    for split, where, rows in parts:
        splits[split] = splits.get(split, ()) + _conversations(where, rows)
    if "train" not in splits:
        raise ValueError(f"data='{data}' has no training rows, only {', '.join(splits) or 'nothing'}; name one train")
    return splits


def _conversations(where: str, rows: Rows) -> tuple[Conversation, ...]:
    made, faults, layout = [], [], ""
    for place, row in rows:
        try:
            if isinstance(row, BadLine):
                raise BrokenRow(str(row))
            layout = layout or layout_of(row)
            made.append(conversation(row, layout))
        except BrokenRow as error:
            faults.append(f"{where}, {place}: {error}")
    if faults:
        others = f" (and {len(faults) - 1} more broken rows)" if faults[1:] else ""
        raise ValueError(faults[0] + others)
    if not made:
        raise ValueError(f"{where}: holds no rows; give at least one conversation")
    return tuple(made)


def _hub(data: str) -> Iterator[tuple[Official, str, Rows]]:
    parts = [*from_hub(data)]
    remedy = "save the parts that you want as files called train, validation and test"
    splits = splits_of([name for name, _ in parts], remedy) or ["train"] * len(parts)
    for split, (name, rows) in zip(splits, parts, strict=True):
        yield split, f"{data} {name}", rows


def _path(data: str) -> Iterator[tuple[Official, str, Rows]]:
    path = Path(data).expanduser()
    if data and path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        splits = splits_of([file.name for file in files], RENAME) or ["train"] * len(files)
        yield from ((split, str(file), read(file)) for split, file in zip(splits, files, strict=True))
    elif path.is_file() and path.suffix in SUFFIXES:
        yield "train", str(path), read(path)
    else:
        kinds = f"{', '.join(SUFFIXES)} file, a folder of them, {HUB}OWNER/NAME"
        raise ValueError(f"data='{data}' is not known; use 'generated', a {kinds}")
