"""Find the parts of a user's data: a file, a folder of files, a copy of a data set of the hub, or the hub itself.

Of a folder, the files directly in it are read; if there are none, those below it, as in `data/train-00000-of-00001`
of a data set's copy. What is hidden (`._x.json`, `.ipynb_checkpoints`) or describes a data set (`dataset_infos.json`)
is no data. The names of files, or of the hub's parts, state their splits (`splits.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainables.home import expanded
from trainables.tasks.files.records import HUB, SUFFIXES, from_disk, from_hub, read
from trainables.tasks.files.splits import RENAME, Official, splits_of

NO_DATA = ("config.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json", "package.json")
CONFIGS = re.compile(r"\A---\s*\n(?:(?!---).*\n)*?(?:configs|data_files):", re.MULTILINE)  # a data set's README
HIDDEN = (".", "~$", "__MACOSX")  # how names of files and folders begin that programs leave behind
SHOWN = 3  # names in a message


class Part(NamedTuple):
    """Rows that come from one file, or from one part of a data set."""

    split: Official | None  # None: no name states one
    name: str  # "my.csv", "data/train-00000-of-00001.parquet", "train"
    where: str  # the same as messages name it, with its folder or data set
    rows: list[tuple[str, Any]]


class Found(NamedTuple):
    """The parts of a source, and lines that say which files are not read."""

    parts: list[Part]
    lines: list[str]


def parts_of(data: str, within: str = "", besides: str = "") -> Found:
    """Read a path or `hub:OWNER/NAME`. Of a .json file with an object, the list called `within` is read.

    `besides`: what else the caller takes, for its message. Raise ValueError in one line.
    """
    path = expanded(data)
    if data.startswith(HUB):
        return _of_data_set(data, from_hub(data))
    if data and path.is_dir():
        return _of_folder(data, path, within)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return Found([Part(None, path.name, str(path), read(path, within))], [])
    kinds = f"a {', '.join(SUFFIXES)} file, a folder of them, or {HUB}OWNER/NAME"
    what = f"data='{data}' is not known" if data else "there is no data"
    raise ValueError(f"{what}; use {besides}{kinds}")


def visible(folder: Path, suffixes: Sequence[str], below: bool = False) -> list[Path]:
    """Return the files of a folder with these suffixes, in order, without hidden ones; `below`: at any depth."""
    found = folder.rglob("*") if below else folder.iterdir()
    return sorted(
        file
        for file in found
        if file.suffix.lower() in suffixes
        and file.is_file()
        and not any(name.startswith(HIDDEN) for name in file.relative_to(folder).parts)
    )


def _of_folder(data: str, path: Path, within: str) -> Found:
    if (path / "snapshots").is_dir() and (path / "refs" / "main").is_file():  # the hub's cache
        path = path / "snapshots" / (path / "refs" / "main").read_text().strip()
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _of_data_set(data, from_disk(path))
    readme = path / "README.md"
    if readme.is_file() and CONFIGS.match(readme.read_text(encoding="utf-8-sig", errors="replace")):
        return _of_data_set(data, from_hub(f"{HUB}{path}"))
    direct, all_files = (
        [file for file in visible(path, SUFFIXES, below) if file.name not in NO_DATA] for below in (False, True)
    )
    files = direct or all_files
    if not files:
        raise ValueError(f"data='{data}' has no {', '.join(SUFFIXES)} file; give the folder of your files")
    names = [file.relative_to(path).as_posix() for file in files]
    splits: Sequence[Official | None] = splits_of(names, RENAME) or [None] * len(files)
    parts = [
        Part(split, name, str(file), read(file, within)) for split, name, file in zip(splits, names, files, strict=True)
    ]
    return Found(parts, unread_below([file.relative_to(path).as_posix() for file in all_files if file not in files]))


def unread_below(names: Sequence[str]) -> list[str]:
    """Return a line that says which files are not read, because others lie directly in the folder."""
    return [f"not read: files in folders below ({shown(names)}), because others lie beside them"] if names else []


def shown(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if names[SHOWN:] else "")


def _of_data_set(data: str, loaded: Iterable[tuple[str, list[tuple[str, Any]]]]) -> Found:
    found = [*loaded]
    remedy = "save the parts that you want as files called train, validation and test"
    splits: Sequence[Official | None] = splits_of([name for name, _ in found], remedy) or [None] * len(found)
    parts = [Part(split, name, f"{data} {name}", rows) for split, (name, rows) in zip(splits, found, strict=True)]
    return Found(parts, [])
