"""Small numbers for each cell: where it lies, what is around it. Rules of several planes are made from them."""

from __future__ import annotations

from functools import partial

import numpy as np

from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.programs.geometry import moved
from trainables.tasks.arc.programs.lines import DIAGONALS
from trainables.tasks.arc.programs.primitive import Primitive, counts, named, small, wider

SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0))


def modulo(grid: Grid, axis: int, of: int, back: bool = False) -> Grid:
    """Return the number of the row (axis 0) or column, modulo a number; `back` counts from the end."""
    own = np.arange(grid.shape[axis]) % of
    own = (own[::-1] if back else own) + 1
    return np.broadcast_to(own[:, None] if axis == 0 else own[None], grid.shape).astype(np.int8)


def chequered(grid: Grid) -> Grid:
    return (1 + np.indices(grid.shape).sum(0) % 2).astype(np.int8)


def to_the_edge(grid: Grid) -> Grid:
    """Return the distance to the nearest edge, from 1."""
    rows, columns = (np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) for n in grid.shape)
    return small(np.minimum(rows[:, None], columns[None]))


def main_diagonal(grid: Grid, back: bool) -> Grid:
    made = np.zeros_like(grid)
    short = min(grid.shape)
    rows = np.arange(short)
    made[len(grid) - 1 - rows if back else rows, rows] = 1
    return made


def neighbours(grid: Grid, steps: tuple[tuple[int, int], ...], alike: bool) -> Grid:
    """Count the neighbours that are drawn, or of the cell's own colour (`alike`), plus one."""
    if alike:
        own = grid + 1
        return small(1 + np.sum([moved(own, step) == own for step in steps], 0))
    drawn = (grid > 0).astype(np.int8)
    return small(1 + np.sum([moved(drawn, step) for step in steps], 0))


def distance(grid: Grid) -> Grid | None:
    """Return the distance of background to the nearest drawn cell, corners included; 0 where something is drawn."""
    reached = grid > 0
    if not reached.any() or reached.all():
        return None
    made = np.zeros_like(grid)
    for far in range(1, 10):
        after = wider(reached)
        made[after & ~reached] = far
        if after.all():
            break
        reached = after
    return made


def in_line(grid: Grid, axis: int) -> Grid:
    """Return how many cells of the row (axis 1) or column are drawn, plus one."""
    return np.broadcast_to(small(1 + (grid > 0).sum(axis, keepdims=True)), grid.shape).copy()


def frequency(grid: Grid) -> Grid:
    """Return how many cells have this colour; 0 for the background."""
    return small(counts(grid))[grid]


def fullest_line(grid: Grid, axis: int) -> Grid:
    """Mark the rows (axis 1) or columns that have most drawn cells."""
    found = (grid > 0).sum(axis, keepdims=True)
    return np.broadcast_to(found == found.max(), grid.shape).astype(np.int8)


def blank(grid: Grid) -> Grid:
    return np.zeros_like(grid)


ALL = SIDES + tuple(DIAGONALS.values())
PRIMITIVES: list[Primitive] = [
    *(
        Primitive(
            f"{'row' if axis == 0 else 'column'} modulo {of}{' from the end' * back}",
            partial(modulo, axis=axis, of=of, back=back),
            2,
            expands=False,
        )
        for axis in (0, 1)
        for of in (2, 3)
        for back in (False, True)
    ),
    *named(
        2,
        expands=False,
        chequered=chequered,
        to_the_edge=to_the_edge,
        diagonal=partial(main_diagonal, back=False),
        other_diagonal=partial(main_diagonal, back=True),
        blank=blank,
        drawn_neighbours=partial(neighbours, steps=ALL, alike=False),
        drawn_sides=partial(neighbours, steps=SIDES, alike=False),
        equal_neighbours=partial(neighbours, steps=ALL, alike=True),
        equal_sides=partial(neighbours, steps=SIDES, alike=True),
        distance=distance,
        drawn_in_the_row=partial(in_line, axis=1),
        drawn_in_the_column=partial(in_line, axis=0),
        frequency=frequency,
        fullest_rows=partial(fullest_line, axis=1),
        fullest_columns=partial(fullest_line, axis=0),
    ),
]
