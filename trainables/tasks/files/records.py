"""Read rows of a user's files and of data sets of the hub, each with its place, without interpreting them.

    FILE.jsonl      a value a line, or a list; FILE.ndjson, too
    FILE.json       a list, or a value a line; or an object of columns, as pandas writes tables
    FILE.csv        a table with names in its first line; commas, semicolons or tabs between its cells
    FILE.tsv        the same with tabs
    FILE.parquet    a table
    hub:OWNER/NAME  what `datasets.load_dataset` gives, also for a local folder that it can read; of a data set with
                    several configurations, hub:OWNER/NAME:CONFIGURATION

Text is UTF-8, with or without a byte order mark. A row whose text is broken comes as a `BadLine`. Every other fault
raises a ValueError of one line.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from trainables.bad_input import BadInput
from trainables.home import expanded

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
DELIMITERS = ",;\t"  # between the cells of a .csv file; the one that its first line has most of
STATED_DELIMITER = re.compile(r"sep=(.)\r?\n")  # the first line of some tables, for Excel
LONGEST_CELL = 2**31 - 1  # characters; Python's own limit is 131,072
HUB = "hub:"
LFS = b"version https://git-lfs"  # how a file begins whose content Git LFS has not fetched
BROKEN = re.compile("[\0\ud800-\udfff]")  # no text holds these: NUL, and halves of characters
DEEPEST = 100  # brackets within brackets; what goes through all rows would fail at about 1000

Rows = Iterable[tuple[str, Any]]  # each row's place ("line 17") and value


class BadLine(BadInput):
    """The value of a row that cannot be read; the caller may raise it or count it."""


def from_anywhere(source: str) -> str:
    """Make the path of an existing file or folder absolute, because each trial has its own working directory."""
    path = expanded(source)
    return str(path.absolute()) if source and path.exists() else source


def read(file: Path, within: str = "") -> list[tuple[str, Any]]:
    """Return all rows of a file; an unknown suffix counts as `.jsonl`.

    If a .json file holds an object, its list called `within` is read, or else its values if all of them are objects.
    """
    suffix = file.suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            rows: Rows = _cells(file)
        else:
            rows = _places(_table(file)) if suffix == ".parquet" else _json_rows(file, within)
        return _checked(rows)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        remedy = "repair it, or call it .jsonl if every line is an object"
        raise ValueError(f"{file}: not valid JSON at {place} ({error.msg}); {remedy}") from error
    except RecursionError as error:
        raise ValueError(f"{file}: cannot be read (brackets nested too deep); give a file of flat rows") from error
    except (OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        kind = suffix or ".jsonl"
        raise ValueError(f"{file}: cannot be read ({reason}); give a readable {kind} file") from error


def read_text(file: Path) -> str:
    """Return the text of a UTF-8 file without its byte order mark. Raise ValueError for other encodings."""
    content = file.read_bytes()
    if content.startswith(LFS):
        raise ValueError("only a pointer of Git LFS is there, fetch the file with `git lfs pull`")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 text: byte {content[error.start]:#x} at {error.start}, save it as UTF-8") from error


def from_hub(data: str) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """Yield the names and rows of the parts of `hub:NAME`."""
    from datasets import load_dataset

    name, _, configuration = data.removeprefix(HUB).partition(":")
    try:
        parts = load_dataset(name, configuration or None)
        loaded = {str(part): _checked(_places(rows)) for part, rows in parts.items()}
    except Exception as error:  # its errors have no common class: network, name, permission, format
        reason = (str(error).strip().split("\n")[0] or type(error).__name__)[:160]
        remedy = "check the name and the network, or give a file"
        raise ValueError(f"data='{data}' cannot be loaded ({reason}); {remedy}") from error
    yield from loaded.items()


def from_disk(folder: Path) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """Yield the names and rows of the parts that `save_to_disk` of `datasets` wrote into a folder."""
    from datasets import DatasetDict, load_from_disk

    try:
        saved = load_from_disk(str(folder))
        parts = saved if isinstance(saved, DatasetDict) else {"train": saved}
        loaded = {str(part): _checked(_places(rows)) for part, rows in parts.items()}
    except Exception as error:  # its errors have no common class
        reason = (str(error).strip().split("\n")[0] or type(error).__name__)[:160]
        raise ValueError(f"{folder}: cannot be read ({reason}); save the data set again, or as Parquet") from error
    yield from loaded.items()


def _places(rows: Iterable[Any]) -> Rows:
    return ((f"row {number}", row) for number, row in enumerate(rows, 1))


def _checked(rows: Rows) -> list[tuple[str, Any]]:
    """Replace rows with broken text by a `BadLine` that says where it is."""
    made = []
    for place, row in rows:
        fault = "" if isinstance(row, BadLine) else _text_fault(row)
        made.append((place, BadLine(fault) if fault else row))
    return made


def _text_fault(row: Any) -> str:
    """Say what no tokenizer or file could hold of a row; empty if it is sound."""
    for name, value in row.items() if isinstance(row, Mapping) else [("", row)]:
        where = f"column {str(name)!r}" if name else "the row"
        level, depth = [name, value], 0
        while level:
            if depth > DEEPEST:
                return f"{where} has brackets nested deeper than {DEEPEST}; flatten or remove the row"
            for mark in (BROKEN.search(one) for one in level if isinstance(one, str)):
                if mark:
                    what = "a NUL character" if mark[0] == "\0" else f"half of a character (\\u{ord(mark[0]):x})"
                    return f"{where} holds {what}; repair or remove the row"
            level, depth = [*chain.from_iterable(map(_inside, level))], depth + 1
    return ""


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return chain(value.keys(), value.values())
    return value if isinstance(value, list) else ()


def _json_rows(file: Path, within: str) -> Rows:
    """Read a list, or a value a line. The suffix says which is likely; a file of the other kind is recognised."""
    text = read_text(file)
    lines = file.suffix.lower() != ".json"
    if lines and not text.lstrip().startswith("["):
        return _lines(text)
    try:
        return _places(_list(json.loads(text), within))
    except (ValueError, RecursionError) as fault:
        first = text.lstrip().partition("\n")[0]
        if not lines and not (str(fault).startswith("Extra data") and isinstance(_decoded(first), dict)):
            raise
    return _lines(text)


def _lines(text: str) -> Rows:
    lines = text.split("\n")  # splitlines would also split at U+2028 inside a text
    return [(f"line {number}", _decoded(line)) for number, line in enumerate(lines, 1) if line.strip()]


def _decoded(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return BadLine(f"not valid JSON at column {error.colno} ({error.msg}); repair or remove the line")
    except RecursionError:
        return BadLine("brackets nested too deep; flatten or remove the row")
    except ValueError as error:  # an endless number
        return BadLine(f"not valid JSON ({str(error)[:80]}); repair or remove the line")


def _cells(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a table as text, by the line on which each begins: a cell in quotes may have several lines."""
    text = read_text(file)
    stated = STATED_DELIMITER.match(text)
    first = text.partition("\n")[0]
    delimiter = "\t" if file.suffix.lower() == ".tsv" else max(DELIMITERS, key=first.count)
    csv.field_size_limit(LONGEST_CELL)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=stated[1] if stated else delimiter, strict=True)
    begins = 1
    try:
        if stated:
            next(rows)
        names = [name.strip() for name in next(rows, [])]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two columns are called {twice[0]!r}; rename one")
        begins = rows.line_num + 1
        for cells in rows:
            if len(cells) == len(names):
                yield f"line {begins}", dict(zip(names, cells, strict=True))
            elif cells:  # no empty line
                remedy = "put a cell with a comma or a line break between quotes"
                yield f"line {begins}", BadLine(f"{len(cells)} cells, and the first line names {len(names)}; {remedy}")
            begins = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"the row that begins on line {begins}: {error}") from error


def _list(content: Any, within: str) -> list[Any]:
    rows = content
    if isinstance(content, dict):
        objects = bool(content) and all(isinstance(value, dict) for value in content.values())
        rows = _of_columns(content) or ([*content.values()] if objects else content.get(within))
    if not isinstance(rows, list):
        either = f", or an object with {within!r}," if within else ""
        raise ValueError(f"holds a {type(content).__name__} where a list of rows{either} is needed")
    return rows


def _of_columns(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of an object of columns, each with its cells in a list or by the row's number; none if it is no
    such object."""
    columns = [*content.values()]
    if len(columns) < 2:
        return []
    if all(isinstance(cells, dict) and cells.keys() == columns[0].keys() for cells in columns):
        if not all(place.isdecimal() for place in columns[0]):
            return []
        columns = [[*cells.values()] for cells in columns]
    if not all(isinstance(cells, list) and len(cells) == len(columns[0]) for cells in columns):
        return []
    if any(isinstance(cell, dict) for cells in columns for cell in cells):
        return []  # lists of rows
    return [dict(zip(content, row, strict=True)) for row in zip(*columns, strict=True)]


def _table(file: Path) -> list[Any]:
    import pyarrow.parquet

    with file.open("rb") as opened:
        if opened.read(len(LFS)) == LFS:
            read_text(file)
    return pyarrow.parquet.read_table(file).to_pylist()
