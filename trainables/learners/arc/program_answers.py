"""What programs answer to a task, searched for once on each machine: trials of a sweep ask for the same tasks.

A file for each task lies in the cache. Its name is a hash of the grids that a learner may read, of the limits, and of
the source of all programs, so a change of any starts anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from trainables.atomic import replace_file
from trainables.cache import cache_folder
from trainables.tasks.arc import programs
from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.programs.search import Limits, Program
from trainables.tasks.arc.programs.solver import Solved, solve
from trainables.tasks.arc.task import Puzzle

PLANES = 12  # programs that are kept of a task, the closest first


def search_all(puzzles: Sequence[Puzzle], folder: Path | None = None) -> None:
    """Search for what is not kept yet. What another process searches for at the same time is left to it."""
    busy = []
    for puzzle in puzzles:
        try:
            solved(puzzle, folder=folder, wait_s=0)
        except Timeout:
            busy.append(puzzle)
    for puzzle in busy:
        solved(puzzle, folder=folder)


def solved(puzzle: Puzzle, limits: Limits | None = None, folder: Path | None = None, wait_s: float = -1) -> Solved:
    """Return what `solve` returns, with `PLANES` planes; search if it is not in `folder`.

    `folder`: by default `$XDG_CACHE_HOME/espalier/programs`, that is ~/.cache/espalier/programs. If several processes
    need the same task, one searches and the others wait: for `wait_s` seconds, after which they raise
    `filelock.Timeout`, or, if that is below 0, as long as it takes. An unreadable file is made again. Where the cache
    cannot be written, the task is searched each time.
    """
    limits = limits or Limits()
    path = (folder or cache_folder() / "programs") / f"{_key(puzzle, limits)}.json"
    if (known := _read(path)) is not None:
        return known
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=wait_s):
            if (known := _read(path)) is None:
                known = solve(puzzle, limits, PLANES)
                replace_file(path, json.dumps(_plain(known)).encode())
    except Timeout:  # which is an OSError
        raise
    except OSError:  # a cache that cannot be written
        known = known or solve(puzzle, limits, PLANES)
    return known


def _key(puzzle: Puzzle, limits: Limits) -> str:
    grids = [*(grid for pair in puzzle.demonstrations for grid in pair), *puzzle.test_inputs]
    told = [
        _source(),
        PLANES,
        limits.grids,
        limits.seconds,
        len(puzzle.demonstrations),
        [grid.tolist() for grid in grids],
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@cache
def _source() -> str:
    """Return a hash of all modules of programs."""
    digest = hashlib.sha256()
    for module in sorted(Path(programs.__file__).parent.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()


def _plain(found: Solved) -> dict[str, Any]:
    return {
        "attempts": [[grid.tolist() for grid in grids] for grids in found.attempts],
        "names": found.names,
        "planes": [[one.names, one.cost, [grid.tolist() for grid in one.grids]] for one in found.planes],
        "grids_asked": found.grids_asked,
    }


def _read(path: Path) -> Solved | None:
    """Return what a file has; None if there is none, or it cannot be read."""
    try:
        plain = json.loads(path.read_bytes())
        return Solved(
            attempts=tuple(tuple(map(_grid, grids)) for grids in plain["attempts"]),
            names=tuple(plain["names"]),
            planes=tuple(Program(tuple(names), cost, tuple(map(_grid, own))) for names, cost, own in plain["planes"]),
            grids_asked=plain["grids_asked"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _grid(rows: list[list[int]]) -> Grid:
    return np.array(rows, dtype=np.int8)
