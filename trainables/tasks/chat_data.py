"""Where conversations come from: a file (.jsonl, .json, .parquet), a folder of such files, or a data set of the hub.

A file's layout is recognised by its columns (`chat_rows.py`). The files of a folder say their split in their names
(`train.jsonl`, `sft.val.jsonl`, `test-00000-of-00001.parquet`); one that says none is training data. Official splits
are kept as they are. Everything that is wrong ends in a ValueError of one line that names the file and the row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from trainables.tasks.chat_rows import BrokenRow, Conversation, conversation, layout_of

Official = Literal["train", "validation", "test"]
OFFICIAL: dict[str, Official] = {  # how files and data sets call a split
    "train": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test",
}  # fmt: skip
SUFFIXES = (".jsonl", ".json", ".parquet")
HUB = "hub:"

Rows = Iterable[tuple[str, Any]]  # each row's place ("line 17") and what lies there: an object, or why there is none


def load(data: str) -> dict[Official, tuple[Conversation, ...]]:
    """The official splits of `data`, a path or `hub:OWNER/NAME`; one file alone is `train`. Empty ones are left out.

    Raises ValueError for what cannot be read and for the first broken row, with the number of the others.
    """
    parts = _hub(data.removeprefix(HUB)) if data.startswith(HUB) else _path(data)
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
            if isinstance(row, BrokenRow):
                raise row
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


def _hub(name: str) -> Iterator[tuple[Official, str, Rows]]:
    """A data set of the hub, or a local folder that `datasets` understands; splits of other names are left out."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        loaded = load_dataset(name)
    except (DatasetsError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"data='{HUB}{name}' cannot be loaded ({reason}); check the name, or give a file") from error
    for title, table in loaded.items():
        if split := OFFICIAL.get(str(title)):
            yield split, f"{HUB}{name} {title}", ((f"row {number}", row) for number, row in enumerate(table, 1))


def _path(data: str) -> Iterator[tuple[Official, str, Rows]]:
    path = Path(data).expanduser()
    if data and path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        yield from ((_split_of(file), str(file), _rows(file)) for file in files)
    elif path.is_file() and path.suffix in SUFFIXES:
        yield "train", str(path), _rows(path)
    else:
        kinds = f"{', '.join(SUFFIXES)} file, a folder of them, {HUB}OWNER/NAME"
        raise ValueError(f"data='{data}' is not known; use 'generated', a {kinds}")


def _split_of(file: Path) -> Official:
    words = re.split(r"[-_.]", file.stem.lower())
    said = {OFFICIAL[word] for word in words if word in OFFICIAL}
    if len(said) > 1:
        raise ValueError(f"{file}: the name says {' and '.join(sorted(said))}; keep one of them")
    return said.pop() if said else "train"


def _rows(file: Path) -> Rows:
    read = {".jsonl": _json_lines, ".json": _json_list, ".parquet": _parquet}[file.suffix]
    try:
        return read(file)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        remedy = "repair it, or call it .jsonl if every line is an object"
        raise ValueError(f"{file}: not valid JSON at {place} ({error.msg}); {remedy}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read ({error}); give a readable {file.suffix} file") from error


def _json_lines(file: Path) -> Rows:
    lines = file.read_text(encoding="utf-8-sig").split("\n")  # splitlines would also split at U+2028 inside a text
    return [(f"line {number}", _decoded(line)) for number, line in enumerate(lines, 1) if line.strip()]


def _decoded(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return BrokenRow(f"not valid JSON at column {error.colno} ({error.msg}); repair or remove the line")


def _json_list(file: Path) -> Rows:
    rows = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(rows, list):
        raise ValueError(f"holds a {type(rows).__name__} where a list of rows is needed")
    return [(f"item {number}", row) for number, row in enumerate(rows, 1)]


def _parquet(file: Path) -> Rows:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(file)
    return [(f"row {number}", row) for number, row in enumerate(table.to_pylist(), 1)]
