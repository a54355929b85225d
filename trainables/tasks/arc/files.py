"""Read ARC tasks from a user's JSON files, in the layouts in which they are published.

    FILE.json                   one task, {"train": [{"input", "output"}, ...], "test": [...]}, or {task id: task, ...}
    FOLDER                      such files; of a single task `<task id>.json`
    FOLDER/data/training ...    as in the repositories of ARC-AGI: the names of folders state the splits
    X_challenges.json           as on Kaggle, with X_solutions.json in the same folder, joined by task id; the names
                                state splits

A task whose test pairs have no outputs, as in competitions, is answered and never scored. Every fault of a file raises
a ValueError of one line.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trainables.home import expanded
from trainables.tasks.arc.grids import Grid, as_grid
from trainables.tasks.files.marks import unread
from trainables.tasks.files.records import read_text
from trainables.tasks.files.source import shown, unread_below, visible
from trainables.tasks.files.splits import RENAME, Official, splits_in_column, splits_of

ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")  # a task id; learners use it as a file name
PARTNER = re.compile(r"(.*?)[-_. ]?(?:challenges|solutions)", re.IGNORECASE)  # the stems of two files that are joined
SUFFIX = (".json",)


@dataclass(frozen=True, eq=False)
class ArcPairs:
    """One ARC task: (input, output) grids of its demonstrations and tests. If an output is unknown, `tests` is empty
    and `unanswered` holds the test inputs."""

    demonstrations: tuple[tuple[Grid, Grid], ...]
    tests: tuple[tuple[Grid, Grid], ...]
    unanswered: tuple[Grid, ...] = ()

    @property
    def test_inputs(self) -> tuple[Grid, ...]:
        return self.unanswered or tuple(source for source, _ in self.tests)

    @property
    def shown(self) -> list[Grid]:
        """Every grid but the test outputs: all that features, filters and sizes may depend on."""
        return [*(grid for pair in self.demonstrations for grid in pair), *self.test_inputs]


class FoundTasks(NamedTuple):
    """Tasks with outputs by the split that names state (None: they state none), tasks without, and lines to print."""

    tasks: dict[Official | None, dict[str, ArcPairs]]
    unanswered: dict[str, ArcPairs]
    lines: list[str]


class TaskFile(NamedTuple):
    """A file's name within its folder, what it holds, and whether that is a single task."""

    name: str
    where: str
    content: dict[str, Any]
    single: bool


def load_files(data: str) -> FoundTasks:
    """Return the tasks of a file or folder. Raise ValueError in one line."""
    path = expanded(data)
    if data and path.is_dir():  # an empty text, as after the "+" of "arc1+", would mean the current folder
        root, files, lines = _files_of(data, path)
    elif path.is_file():
        root, files, lines = path.parent, _with_solutions(path), []
    else:
        raise ValueError(
            f"data='{data}' is not known; use 'arc1', 'arc2', or an existing JSON file or folder, or several with '+'"
        )
    challenges, solutions = list[TaskFile](), dict[tuple[str, str], TaskFile]()
    for file in files:
        one = _opened(file, root)
        if all(map(_is_attempts, one.content.values())):
            lines.append(f"left out: {one.name}, which holds answers for a submission")
        elif all(isinstance(value, list) for value in one.content.values()):
            if (same := solutions.setdefault(_partner(one), one)) is not one:
                raise ValueError(f"{one.where}: holds solutions, as {same.name} does; remove one of the two files")
        else:
            challenges.append(one)
    challenges.sort(key=lambda one: not Path(one.name).stem.lower().endswith("challenges"))  # these first
    made = [(one, _tasks(one, solutions.pop(_partner(one), None), lines)) for one in challenges]
    if solutions:
        alone = next(iter(solutions.values()))
        raise ValueError(f"{alone.where}: holds solutions; put their tasks beside it, ..._challenges.json")
    return FoundTasks(*_by_split(data, made, path.is_dir()), lines + _not_read(challenges))


def _files_of(data: str, path: Path) -> tuple[Path, list[Path], list[str]]:
    """Return the folder's JSON files: those in folders whose names state splits, else direct ones, else those below.

    The lines say which others are not read.
    """
    every = visible(path, SUFFIX, below=True)
    for root in (path, path / "data"):
        folders = [one for one in sorted(root.iterdir()) if one.is_dir()] if root.is_dir() else []
        stated = [file for one in folders if splits_in_column([one.name]) for file in visible(one, SUFFIX, below=True)]
        if stated:
            beside = _others(every, stated, path)
            return root, stated, [f"not read: {shown(beside)}, beside folders of tasks"] if beside else []
    files = visible(path, SUFFIX) or every
    if not files:
        raise ValueError(f"data='{data}' has no .json file; name the folder that holds <task id>.json files")
    return path, files, unread_below(_others(every, files, path))


def _others(every: Sequence[Path], chosen: Sequence[Path], path: Path) -> list[str]:
    return [file.relative_to(path).as_posix() for file in every if file not in {*chosen}]


def _with_solutions(path: Path) -> list[Path]:
    """Return a file, and that of its solutions if there is one."""
    beside = path.with_name(re.sub("challenges$", "solutions", path.stem) + path.suffix)
    return [path, beside] if beside != path and beside.is_file() else [path]


def _partner(one: TaskFile) -> tuple[str, str]:
    """Return what tasks and their solutions share: the folder, and how their file names begin."""
    name = Path(one.name)
    beginning = PARTNER.fullmatch(name.stem)
    return name.parent.as_posix(), beginning[1] if beginning else name.stem


def _is_attempts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) and "attempt_1" in one for one in value)


def _opened(file: Path, root: Path) -> TaskFile:
    try:
        content = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{file}: not valid JSON at {place} ({error.msg}); repair or remove the file") from error
    except RecursionError as error:
        raise ValueError(f"{file}: cannot be read (brackets nested too deep); repair or remove the file") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read ({error}); give a readable UTF-8 JSON file") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{file}: holds a {type(content).__name__}; write one task or an object of task id -> task")
    name = file.relative_to(root).as_posix()
    if "train" in content or "test" in content:
        return TaskFile(name, str(file), {file.stem: content}, True)
    for key in content:
        if not ID.fullmatch(key):
            raise ValueError(f"{file}: task id {key!r} cannot name a file; use letters, digits, '.', '_' and '-'")
    return TaskFile(name, str(file), content, False)


def _tasks(one: TaskFile, solutions: TaskFile | None, lines: list[str]) -> dict[str, ArcPairs]:
    """Return a file's tasks, with the outputs of its file of solutions."""
    if solutions is None:
        return {key: _pairs(task, one.where if one.single else _at(one, key)) for key, task in one.content.items()}
    if unknown := solutions.content.keys() - one.content.keys():
        raise ValueError(f"{_at(solutions, min(unknown))} is not in {one.name}; give the files that belong together")
    known = one.content.keys() & solutions.content.keys()
    lines.append(f"joined: {one.name} and {solutions.name}, {len(known):,} of {len(one.content):,} tasks")
    tasks = {}
    for key, task in one.content.items():
        pairs = _pairs(task, _at(one, key))
        tasks[key] = _answered(pairs, solutions.content[key], _at(solutions, key)) if key in known else pairs
    return tasks


def _not_read(files: Sequence[TaskFile]) -> list[str]:
    """Return a line that names the keys of tasks and of their pairs that are not read, with a count."""
    tasks = [task for one in files for task in one.content.values()]
    keys = Counter(key for task in tasks for key in unread(task, ("train", "test")))
    pairs = [pair for task in tasks for pair in (*task["train"], *task["test"])]
    keys.update(f"train/test: {key}" for pair in pairs for key in unread(pair, ("input", "output")))
    counts = ", ".join(f"{key!r} ({count:,} times)" for key, count in keys.most_common())
    return [f"not read: keys of tasks {counts}"] if counts else []


def _at(one: TaskFile, key: str) -> str:
    return f"{one.where}: task '{key}'"


def _answered(pairs: ArcPairs, outputs: Sequence[Any], where: str) -> ArcPairs:
    sources = pairs.test_inputs
    if len(outputs) != len(sources):
        raise ValueError(f"{where} has {len(outputs)} outputs for {len(sources)} test inputs; give one for each")
    targets = [as_grid(output, f"{where}[{index}]") for index, output in enumerate(outputs)]
    return ArcPairs(pairs.demonstrations, tuple(zip(sources, targets, strict=True)))


def _by_split(
    data: str, files: Sequence[tuple[TaskFile, dict[str, ArcPairs]]], in_folder: bool
) -> tuple[dict[Official | None, dict[str, ArcPairs]], dict[str, ArcPairs]]:
    """Divide tasks by the splits that names state: of folders, and of files with several tasks."""
    labelled = [one for one, tasks in files if not all(pairs.unanswered for pairs in tasks.values())]
    names = [one.name.rpartition("/")[0] if one.single else one.name for one in labelled]
    if in_folder and "" in names and any(splits_in_column([name]) for name in names):
        alone = labelled[names.index("")].name
        raise ValueError(f"which split is {alone}? Other names say one; move it to a folder called train or test")
    stated: Sequence[Official | None] = (splits_of(names, RENAME) if in_folder else None) or [None] * len(names)
    split_of = {one.where: split for one, split in zip(labelled, stated, strict=True)}
    found: dict[Official | None, dict[str, ArcPairs]] = {}
    unanswered: dict[str, ArcPairs] = {}
    for one, tasks in files:
        for key, pairs in tasks.items():
            place = unanswered if pairs.unanswered else found.setdefault(split_of[one.where], {})
            if key in place:
                raise ValueError(f"{one.where}: task '{key}' is there twice in data='{data}'; rename or remove one")
            place[key] = pairs
    return found, unanswered


def _pairs(task: Any, where: str) -> ArcPairs:
    shown, asked = _rows(task, "train", where), _rows(task, "test", where)
    demonstrations = tuple((_side(row, "input", at), _side(row, "output", at)) for row, at in shown)
    sources = tuple(_side(row, "input", at) for row, at in asked)
    if not all(isinstance(row, Mapping) and row.get("output") is not None for row, _ in asked):
        return ArcPairs(demonstrations, (), sources)
    targets = (_side(row, "output", at) for row, at in asked)
    return ArcPairs(demonstrations, tuple(zip(sources, targets, strict=True)))


def _rows(task: Any, name: str, where: str) -> list[tuple[Any, str]]:
    """Return the pairs of a part, each with its name in error messages."""
    rows = task.get(name) if isinstance(task, Mapping) else None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{where}: key '{name}' is missing or empty; a task has non-empty lists 'train' and 'test'")
    return [(row, f"{where}: {name}[{index}]") for index, row in enumerate(rows)]


def _side(row: Any, side: str, where: str) -> Grid:
    if not isinstance(row, Mapping) or row.get(side) is None:
        remedy = "every pair needs an input and an output; only test pairs may lack the output"
        raise ValueError(f"{where} has no '{side}'; {remedy}")
    return as_grid(row[side], f"{where}.{side}")
