"""Rays from cells to the edge or to the next cell, links between two cells, falling, growing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.programs.geometry import moved
from trainables.tasks.arc.programs.objects import objects
from trainables.tasks.arc.programs.primitive import Primitive, box, named, wider

# How a grid is turned so that a direction points to the right, and turned back.
TURNED: dict[str, Callable[[Grid], Grid]] = {
    "right": lambda grid: grid,
    "left": np.fliplr,
    "down": np.transpose,
    "up": lambda grid: grid[::-1].T,
}
BACK = TURNED | {"up": lambda grid: grid.T[::-1]}
DIAGONALS = {"down right": (1, 1), "down left": (1, -1), "up right": (-1, 1), "up left": (-1, -1)}


def rays(grid: Grid, direction: str) -> Grid:
    """Draw a line from every cell in one direction, up to the next drawn cell."""
    own = TURNED[direction](grid)
    last = np.maximum.accumulate(np.where(own > 0, np.arange(own.shape[1]), 0), 1)
    return BACK[direction](np.take_along_axis(own, last, 1))


def both_ways(grid: Grid, first: str, second: str) -> Grid:
    made = rays(grid, first)
    return np.where(made > 0, made, rays(grid, second))


def whole_lines(grid: Grid, axis: int) -> Grid:
    """Fill the row (axis 1) or column (axis 0) of every drawn cell with its colour; of several with the largest."""
    return np.broadcast_to(grid.max(axis, keepdims=True), grid.shape).copy()


def crosses(grid: Grid, over: int) -> Grid:
    """Draw whole rows and columns; those along axis `over` are on top."""
    top, under = whole_lines(grid, over), whole_lines(grid, 1 - over)
    return np.where(top > 0, top, under)


def diagonal(grid: Grid, step: tuple[int, int]) -> Grid:
    """Draw a diagonal from every cell, up to the next drawn cell."""
    down, right = step
    own = grid[::down, ::right]
    rows, columns = np.indices(own.shape)
    place = columns - rows + len(own) - 1  # the same along a falling diagonal
    skewed = np.zeros((len(own), sum(own.shape) - 1), dtype=np.int8)
    skewed[rows, place] = own
    last = np.maximum.accumulate(np.where(skewed > 0, np.arange(len(own))[:, None], 0), 0)
    return np.take_along_axis(skewed, last, 0)[rows, place][::down, ::right]


def diagonals(grid: Grid, names: tuple[str, ...]) -> Grid:
    made = grid
    for name in names:
        own = diagonal(grid, DIAGONALS[name])
        made = np.where(made == 0, own, made)
    return made


def links(grid: Grid, axis: int, alike: bool) -> Grid | None:
    """Link neighbours in a row (axis 1) or column: with the colour of both (`alike`) or of the first."""
    ways = ("right", "left") if axis else ("down", "up")
    first, second = (rays(grid, way) for way in ways)
    between = (first == second) if alike else (first > 0) & (second > 0)
    return np.where(between, first, grid) if (between & (grid == 0)).any() else None


def all_links(grid: Grid, over: int) -> Grid | None:
    """Link equal cells along rows and columns; links along axis `over` are on top."""
    top, under = links(grid, over, True), links(grid, 1 - over, True)
    if top is None or under is None:
        return under if top is None else top
    return np.where((top > 0) & (grid == 0), top, under)


def diagonal_links(grid: Grid) -> Grid | None:
    """Link equal cells along diagonals."""
    made = grid.copy()
    for one, other in (("down right", "up left"), ("down left", "up right")):
        first, second = diagonal(grid, DIAGONALS[one]), diagonal(grid, DIAGONALS[other])
        made = np.where((made == 0) & (first == second), first, made)
    return None if np.array_equal(made, grid) else made


def fallen(grid: Grid, direction: str) -> Grid:
    """Let every cell fall in one direction."""
    own = TURNED[direction](grid)
    order = np.argsort(own > 0, 1, kind="stable")
    return BACK[direction](np.take_along_axis(own, order, 1))


def fallen_objects(grid: Grid, direction: str) -> Grid | None:
    """Let figures fall as wholes in one direction, until they meet another or the edge."""
    own = TURNED[direction](grid)
    found = objects(np.ascontiguousarray(own), 8, False)
    if not len(found) or len(found) > 30:
        return None
    made = np.zeros_like(own)
    for i in np.argsort([-columns.stop for _, columns in found.boxes], kind="stable"):
        (rows, columns), mask = found.boxes[i], found.masks[i]
        width, start = columns.stop - columns.start, columns.start
        while start + width < own.shape[1] and not (made[rows, start + 1 : start + 1 + width][mask] > 0).any():
            start += 1
        made[rows, start : start + width][mask] = own[rows, columns][mask]
    return BACK[direction](made)


def grown(grid: Grid, corners: bool, sides: bool = True) -> Grid:
    """Let every cell grow by one cell over the background."""
    made = grid
    steps = [(0, 1), (0, -1), (1, 0), (-1, 0)] if sides else []
    for step in steps + (list(DIAGONALS.values()) if corners else []):
        made = np.where(made == 0, moved(grid, step), made)
    return made


def outline(grid: Grid, corners: bool) -> Grid:
    """Return the background around what is drawn, in the colours that it would grow to."""
    return np.where(grid == 0, grown(grid, corners), np.int8(0))


def worn(grid: Grid) -> Grid:
    """Remove the cells whose eight neighbours are not all drawn."""
    made = np.zeros_like(grid)
    made[1:-1, 1:-1] = np.where(wider(grid == 0), np.int8(0), grid)[1:-1, 1:-1]
    return made


def uniform_lines(grid: Grid) -> Grid | None:
    """Keep whole rows and columns of one colour alone."""
    made = np.zeros_like(grid)
    rows, columns = (grid == grid[:, :1]).all(1), (grid == grid[:1]).all(0)
    made[rows] = grid[rows]
    made[:, columns] = np.maximum(made[:, columns], grid[:, columns])
    return made if made.any() else None


def without_loners(grid: Grid, alike: bool) -> Grid:
    """Remove cells that touch no other (of their colour if `alike`), corners included."""
    found = objects(grid, 8, alike)
    return np.where(np.concatenate([[True], found.size == 1])[found.labels], np.int8(0), grid)


def spanned(grid: Grid) -> Grid | None:
    """Fill the box around all that is drawn with ones."""
    place = box(grid > 0)
    if place is None:
        return None
    made = np.zeros_like(grid)
    made[place] = 1
    return made


PRIMITIVES: list[Primitive] = [
    *(Primitive(f"rays {way}", partial(rays, direction=way)) for way in TURNED),
    *named(
        rays_across=partial(both_ways, first="right", second="left"),
        rays_up_and_down=partial(both_ways, first="down", second="up"),
        whole_rows=partial(whole_lines, axis=1),
        whole_columns=partial(whole_lines, axis=0),
        crosses=partial(crosses, over=1),
        crosses_with_columns_on_top=partial(crosses, over=0),
        all_diagonals=partial(diagonals, names=tuple(DIAGONALS)),
        falling_diagonals=partial(diagonals, names=("down right", "up left")),
        rising_diagonals=partial(diagonals, names=("down left", "up right")),
        links_across=partial(links, axis=1, alike=True),
        links_down=partial(links, axis=0, alike=True),
        all_links=partial(all_links, over=1),
        all_links_with_columns_on_top=partial(all_links, over=0),
        diagonal_links=diagonal_links,
        grown=partial(grown, corners=True),
        grown_over_sides=partial(grown, corners=False),
        grown_over_corners=partial(grown, corners=True, sides=False),
        outline=partial(outline, corners=True),
        outline_over_sides=partial(outline, corners=False),
        worn=worn,
        uniform_lines=uniform_lines,
        without_loners=partial(without_loners, alike=False),
        without_loners_of_a_colour=partial(without_loners, alike=True),
        spanned=spanned,
    ),
    *named(
        2,
        links_across_of_any=partial(links, axis=1, alike=False),
        links_down_of_any=partial(links, axis=0, alike=False),
    ),
    *(Primitive(f"diagonal {name}", partial(diagonal, step=step)) for name, step in DIAGONALS.items()),
    *(Primitive(f"cells fall {way}", partial(fallen, direction=way)) for way in TURNED),
    *(Primitive(f"figures fall {way}", partial(fallen_objects, direction=way)) for way in TURNED),
]
