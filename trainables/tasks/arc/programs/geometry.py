"""The whole grid is turned, mirrored or moved."""

from __future__ import annotations

from functools import partial

import numpy as np

from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.programs.primitive import Primitive, named
from trainables.tasks.arc.views import TURNS, turn

STEPS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def moved(grid: Grid, step: tuple[int, int]) -> Grid:
    """Move all cells; what leaves the grid is lost, and what comes in is background."""
    found = np.zeros_like(grid)
    places = [
        (slice(max(by, 0), side + min(by, 0)), slice(max(-by, 0), side - max(by, 0)))
        for by, side in zip(step, grid.shape, strict=True)
    ]
    (to_row, from_row), (to_column, from_column) = places
    found[to_row, to_column] = grid[from_row, from_column]
    return found


def rolled(grid: Grid, step: tuple[int, int]) -> Grid:
    """Move all cells; what leaves the grid comes back on the other side."""
    return np.roll(grid, step, (0, 1))


def to_corner(grid: Grid, down: bool, right: bool) -> Grid:
    """Move everything that is drawn as far as it goes."""
    found = np.zeros_like(grid)
    rows, columns = np.flatnonzero(grid.any(1)), np.flatnonzero(grid.any(0))
    if not rows.size:
        return found
    cut = grid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = down * (grid.shape[0] - cut.shape[0]), right * (grid.shape[1] - cut.shape[1])
    found[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return found


PRIMITIVES: list[Primitive] = [
    *(Primitive(f"turn {view}", partial(turn, view=view)) for view in range(1, TURNS)),
    *(Primitive(f"move {name}", partial(moved, step=step)) for name, step in STEPS.items()),
    *(Primitive(f"roll {name}", partial(rolled, step=step), 2) for name, step in STEPS.items()),
    *(
        Primitive(f"move {a} {b}", partial(moved, step=(STEPS[a][0], STEPS[b][1])), 2)
        for a in ("up", "down")
        for b in ("left", "right")
    ),
    *named(
        2,
        to_the_upper_left=partial(to_corner, down=False, right=False),
        to_the_lower_right=partial(to_corner, down=True, right=True),
    ),
]
