"""ARC grids as arrays, as text and as official submissions. Pure functions, numpy and the standard library only.

A grid is an int8 array of shape (height, width), sides 1 to 30, colours 0 to 9. As text it is one row of digits per
line; grids are separated by one empty line. A submission (the official format, for one task) is a JSON list with one
`{"attempt_1": grid, "attempt_2": grid}` per test input; `[]` as a grid means "no answer".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

Grid = np.ndarray
MAX_SIDE = 30  # of the ARC format
COLOURS = 10


def grid_text(grid: Grid) -> str:
    return "\n".join("".join(map(str, row)) for row in grid.tolist())


def as_grid(rows: Any, where: str) -> Grid:
    """Return a nested list as a read-only grid. Raise ValueError, which begins with `where`, for an invalid one."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise ValueError(f"{where} is not a grid; write a non-empty list of rows, each a list of colours 0 to 9")
    for index, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(f"{where}: row {index} has {len(row)} cells, row 0 has {len(rows[0])}; make them equal")
        for cell in row:
            if type(cell) is not int or not 0 <= cell < COLOURS:
                raise ValueError(f"{where}: row {index} holds {cell!r}; a cell is an integer from 0 to 9")
    if not 1 <= len(rows[0]) <= MAX_SIDE or len(rows) > MAX_SIDE:
        raise ValueError(f"{where} is {len(rows)}x{len(rows[0])}; both sides must lie between 1 and {MAX_SIDE}")
    grid = np.array(rows, dtype=np.int8)
    grid.setflags(write=False)
    return grid


def submission(attempts: Sequence[Sequence[Grid]]) -> str:
    """Return the official JSON of one task from one or two attempts per test input (a single one is repeated)."""
    entries = [(tries[0], tries[-1]) for tries in attempts]
    return json.dumps([{"attempt_1": first.tolist(), "attempt_2": second.tolist()} for first, second in entries])


def parse_completion(text: str, outputs: int) -> list[tuple[Grid, ...]] | None:
    """Return the attempts for each test input of a completion; None if it does not answer `outputs` grids."""
    if text.lstrip().startswith("[{"):
        return _parse_submission(text, outputs)
    blocks = [block.splitlines() for block in "\n".join(map(str.rstrip, text.strip().splitlines())).split("\n\n")]
    if len(blocks) != outputs:
        return None
    try:
        return [(as_grid([[_digit(mark) for mark in row] for row in rows], "completion"),) for rows in blocks]
    except ValueError:
        return None


def _digit(mark: str) -> int:
    if mark not in "0123456789":
        raise ValueError(f"{mark!r} is not a digit from 0 to 9")
    return int(mark)


def _parse_submission(text: str, outputs: int) -> list[tuple[Grid, ...]] | None:
    try:
        entries = json.loads(text)
        if len(entries) != outputs:
            return None
        return [tuple(_attempt(entry[name]) for name in ("attempt_1", "attempt_2")) for entry in entries]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _attempt(rows: Any) -> Grid:
    return np.zeros((0, 0), dtype=np.int8) if rows == [] else as_grid(rows, "attempt")
