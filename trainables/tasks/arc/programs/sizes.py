"""Sizes of the outputs, from what fits the demonstrations, and how a grid of another size is brought to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from trainables.tasks.arc.grids import MAX_SIDE, Grid

Shape = tuple[int, int]
MOST_SIZES = 2  # further guesses of the sizes cost time and are seldom right


def sizes(shown: Sequence[Shape], asked: Sequence[Shape], images: Sequence[Sequence[Shape]]) -> list[list[Shape]]:
    """Return guesses of the sizes of all outputs, those of the tests last, the simplest guess first.

    `shown`: of the demonstrations' outputs; `asked`: of all inputs; `images`: of the grids that programs give.
    """
    axes = [_sides([shape[axis] for shape in shown], [shape[axis] for shape in asked]) for axis in (0, 1)]
    found = [list(zip(down, across, strict=True)) for down in axes[0] for across in axes[1]]
    found += [list(own) for own in images if tuple(own[: len(shown)]) == tuple(shown)]
    fitting = [own for own in found if all(0 < side <= MAX_SIDE for shape in own for side in shape)]
    return [list(own) for own in dict.fromkeys(map(tuple, fitting))][:MOST_SIZES]


def _sides(shown: Sequence[int], asked: Sequence[int]) -> list[list[int]]:
    """Return guesses of one side: constant, a multiple or a part of the input's, or so much more than it."""
    found = []
    if len(set(shown)) == 1:
        found.append([shown[0]] * len(asked))
    ratios = {(out * 1000) // side for out, side in zip(shown, asked, strict=False)}
    if len(ratios) == 1 and all(out * asked[0] == shown[0] * side for out, side in zip(shown, asked, strict=False)):
        found.append([side * shown[0] // asked[0] for side in asked])
    more = {out - side for out, side in zip(shown, asked, strict=False)}
    if len(more) == 1:
        found.append([side + next(iter(more)) for side in asked])
    return found


def repeated(grid: Grid, shape: Shape) -> Grid | None:
    """Repeat the grid from the upper left corner as far as the size goes."""
    return grid[np.arange(shape[0]) % len(grid)][:, np.arange(shape[1]) % grid.shape[1]]


def repeated_in_mirrors(grid: Grid, shape: Shape) -> Grid | None:
    """Repeat the grid and its mirror image in turn; the row and column at a mirror are not doubled."""
    places = []
    for side, own in zip(shape, grid.shape, strict=True):
        there = np.concatenate([np.arange(own), np.arange(own - 2, 0, -1)])
        places.append(there[np.arange(side) % len(there)])
    return grid[places[0]][:, places[1]]


def enlarged(grid: Grid, shape: Shape) -> Grid | None:
    times = [divmod(side, own) for side, own in zip(shape, grid.shape, strict=True)]
    if any(rest or not k for k, rest in times):
        return None
    return grid.repeat(times[0][0], 0).repeat(times[1][0], 1)


def placed(grid: Grid, shape: Shape, down: bool, right: bool) -> Grid | None:
    """Cut from one corner, or set into it on background."""
    made = np.zeros(shape, dtype=np.int8)
    (rows, from_rows), (columns, from_columns) = (
        (slice(side - min(side, own), side), slice(own - min(side, own), own))
        if far
        else (slice(0, min(side, own)),) * 2
        for side, own, far in zip(shape, grid.shape, (down, right), strict=True)
    )
    made[rows, columns] = grid[from_rows, from_columns]
    return made


def centred(grid: Grid, shape: Shape) -> Grid | None:
    """Set the grid into the middle."""
    spare = [side - own for side, own in zip(shape, grid.shape, strict=True)]
    if min(spare) < 0 or any(rest % 2 for rest in spare):
        return None
    made = np.zeros(shape, dtype=np.int8)
    made[spare[0] // 2 : spare[0] // 2 + len(grid), spare[1] // 2 : spare[1] // 2 + grid.shape[1]] = grid
    return made


FITTINGS: dict[str, Callable[[Grid, Shape], Grid | None]] = {
    "repeated": repeated,
    "enlarged": enlarged,
    **{
        f"{'lower' if down else 'upper'} {'right' if right else 'left'} corner": partial(placed, down=down, right=right)
        for down in (False, True)
        for right in (False, True)
    },
    "centred": centred,
    "repeated in mirrors": repeated_in_mirrors,
}
