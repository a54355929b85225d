"""Read rows of a user's files and of data sets of the hub, each with its place, without interpreting them.

    FILE.jsonl      a value a line
    FILE.json       a list
    FILE.csv        a table with names in its first line; commas, semicolons or tabs between its cells
    FILE.tsv        the same with tabs
    FILE.parquet    a table
    hub:OWNER/NAME  what `datasets.load_dataset` gives, also for a local folder that it can read; of a data set with
                    several configurations, hub:OWNER/NAME:CONFIGURATION

Every fault raises a ValueError of one line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
DELIMITERS = ",;\t"  # between the cells of a .csv file; the one that its first line has most of
LONGEST_CELL = 2**31 - 1  # characters; Python's own limit is 131,072
HUB = "hub:"

Rows = Iterable[tuple[str, Any]]  # each row's place ("line 17") and value


class BadLine(ValueError):
    """The value of a line that cannot be read; the caller may raise it or count it."""


def from_anywhere(source: str) -> str:
    """Make the path of an existing file or folder absolute, because each trial has its own working directory."""
    path = Path(source).expanduser()
    return str(path.absolute()) if source and path.exists() else source


def read(file: Path, within: str = "") -> Rows:
    """Return all rows of a file; an unknown suffix counts as `.jsonl`.

    If a .json file holds an object, its list called `within` is read.
    """
    try:
        if file.suffix == ".json":
            return _places(_list(file, within))
        if file.suffix in (".csv", ".tsv"):
            return [*_cells(file)]
        return _places(_table(file)) if file.suffix == ".parquet" else _lines(file)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        remedy = "repair it, or call it .jsonl if every line is an object"
        raise ValueError(f"{file}: not valid JSON at {place} ({error.msg}); {remedy}") from error
    except (OSError, ValueError, RecursionError) as error:  # RecursionError: brackets within brackets
        reason = str(error).split("\n")[0]
        kind = file.suffix or ".jsonl"
        raise ValueError(f"{file}: cannot be read ({reason}); give a readable {kind} file") from error


def from_hub(data: str) -> Iterator[tuple[str, Rows]]:
    """Yield the names and rows of the parts of `hub:NAME`."""
    from datasets import load_dataset

    name, _, configuration = data.removeprefix(HUB).partition(":")
    try:
        parts = load_dataset(name, configuration or None)
        loaded = {str(part): [*_places(rows)] for part, rows in parts.items()}
    except Exception as error:  # its errors have no common class: network, name, permission, format
        reason = (str(error).strip().split("\n")[0] or type(error).__name__)[:160]
        remedy = "check the name and the network, or give a file"
        raise ValueError(f"data='{data}' cannot be loaded ({reason}); {remedy}") from error
    yield from loaded.items()


def _places(rows: Iterable[Any]) -> Rows:
    return ((f"row {number}", row) for number, row in enumerate(rows, 1))


def _lines(file: Path) -> Rows:
    lines = file.read_text(encoding="utf-8-sig").split("\n")  # splitlines would also split at U+2028 inside a text
    return [(f"line {number}", _decoded(line)) for number, line in enumerate(lines, 1) if line.strip()]


def _decoded(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return BadLine(f"not valid JSON at column {error.colno} ({error.msg}); repair or remove the line")
    except (ValueError, RecursionError) as error:  # an endless number, brackets within brackets
        return BadLine(f"not valid JSON ({str(error)[:80]}); repair or remove the line")


def _cells(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a table as text, by the line on which each begins: a cell in quotes may have several lines."""
    text = file.read_text(encoding="utf-8-sig")
    if "\0" in text:
        raise ValueError("it holds NUL characters; save it as UTF-8")
    first = text.partition("\n")[0]
    delimiter = "\t" if file.suffix == ".tsv" else max(DELIMITERS, key=first.count)
    csv.field_size_limit(LONGEST_CELL)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names = [name.strip() for name in next(rows, [])]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two columns are called {twice[0]!r}; rename one")
    begins = rows.line_num + 1
    try:
        for cells in rows:
            if len(cells) == len(names):
                yield f"line {begins}", dict(zip(names, cells, strict=True))
            elif cells:  # no empty line
                remedy = "put a cell with a comma or a line break between quotes"
                yield f"line {begins}", BadLine(f"{len(cells)} cells, and the first line names {len(names)}; {remedy}")
            begins = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"the row that begins on line {begins}: {error}") from error


def _list(file: Path, within: str) -> list[Any]:
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    rows = content.get(within) if within and isinstance(content, dict) else content
    if not isinstance(rows, list):
        either = f", or an object with {within!r}," if within else ""
        raise ValueError(f"holds a {type(content).__name__} where a list of rows{either} is needed")
    return rows


def _table(file: Path) -> list[Any]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(file).to_pylist()
