"""A primitive: one grid transform with a name and a cost, and the helpers that all files of primitives share.

In a program's grids 0 is the background (`solver.py` renames colours so). A primitive returns a grid of its own or
None, where it has no meaning; the values of a grid are 0 to 9, be they colours or small numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainables.tasks.arc.grids import Grid

Transform = Callable[..., Grid | None]
LARGEST = 9  # the largest value of a cell


@dataclass(frozen=True)
class Primitive:
    """`run` takes a grid and, if `reads_input`, the task's input too. `starts`: it is run on the input alone;
    `expands`: others may follow it."""

    name: str
    run: Transform
    cost: int = 1
    reads_input: bool = False
    starts: bool = False
    expands: bool = True


def named(cost: int = 1, starts: bool = False, expands: bool = True, **transforms: Transform) -> list[Primitive]:
    """Return primitives from keywords: their names, with spaces for underscores, and their functions."""
    return [
        Primitive(name.replace("_", " "), run, cost, starts=starts, expands=expands) for name, run in transforms.items()
    ]


def small(values: np.ndarray) -> Grid:
    """Return numbers as values of cells; those above 9 become 9."""
    return np.minimum(values, LARGEST).astype(np.int8)


def box(mask: np.ndarray) -> tuple[slice, slice] | None:
    """Return the bounding box of a mask; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def wider(mask: np.ndarray) -> np.ndarray:
    """Let a mask grow by one cell to all sides, corners included."""
    across = mask.copy()
    across[:, 1:] |= mask[:, :-1]
    across[:, :-1] |= mask[:, 1:]
    made = across.copy()
    made[1:] |= across[:-1]
    made[:-1] |= across[1:]
    return made


def counts(grid: Grid) -> np.ndarray:
    """Return how many cells each value has, of shape (10,); that of the background is 0."""
    found = np.bincount(grid.ravel(), minlength=LARGEST + 1)
    found[0] = 0
    return found


def commonest(grid: Grid) -> int:
    """Return the commonest colour, or 0 if there is none."""
    return int(counts(grid).argmax())


def rarest(grid: Grid) -> int:
    """Return the rarest colour, or 0 if there is none."""
    found = counts(grid)
    return int(np.where(found > 0, found, grid.size + 1).argmin()) if found.any() else 0
