"""Hidden symmetries and periods: what is missing is completed from what they repeat."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np

from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.programs.primitive import Primitive, box, commonest, named, rarest


def _mirrored(grid: Grid, total: int, axis: int) -> Grid:
    """Return the grid mirrored so that row (axis 0) or column i comes to `total` - i; the rest is background."""
    side = grid.shape[axis]
    source = total - np.arange(side)
    inside = (source >= 0) & (source < side)
    found = np.take(grid, np.where(inside, source, 0), axis)
    found[(~inside,) if axis == 0 else (slice(None), ~inside)] = 0
    return found


def _axis(grid: Grid, axis: int) -> int | None:
    """Return twice the place of the mirror axis on which most drawn cells agree and none disagree; None without."""
    best, place = 0, None
    side = grid.shape[axis]
    for total in range(side // 2, side * 3 // 2 + 1):
        other = _mirrored(grid, total, axis)
        both = (grid > 0) & (other > 0)
        if both.any() and (grid == other)[both].all() and both.sum() > max(best, grid.size // 4):
            best, place = int(both.sum()), total
    return place


def completed_by_mirrors(grid: Grid) -> Grid | None:
    """Fill the background of a symmetric picture from its mirror images, the transposed one too."""
    if not 0 < (grid == 0).sum() <= grid.size // 2:
        return None
    made = grid
    for _ in range(2):
        for axis in (0, 1):
            total = _axis(made, axis)
            if total is not None:
                made = np.where(made == 0, _mirrored(made, total, axis), made)
    if made.shape[0] == made.shape[1] and _agree(made, made.T):
        made = np.where(made == 0, made.T, made)
    return None if made is grid or np.array_equal(made, grid) else made


def _agree(grid: Grid, other: Grid) -> bool:
    both = (grid > 0) & (other > 0)
    return bool((grid == other)[both].all())


def completed_by_period(grid: Grid, slanted: bool = False) -> Grid | None:
    """Fill the background from the smallest period (rows, columns) that all drawn cells agree with; `slanted` periods
    move on by some columns from row to row."""
    drawn = grid > 0
    if not grid.size // 3 <= drawn.sum() < grid.size:
        return None
    height, width = grid.shape
    rows, columns = np.indices(grid.shape)
    sizes = sorted(product(range(1, height + 1), range(1, width + 1)), key=lambda size: size[0] * size[1])
    for high, wide in sizes:
        if high * wide * 2 > grid.size or high * wide > drawn.sum():
            break
        for slant in range(wide) if slanted and high == 1 else (0,):
            place = np.asarray((rows % high) * wide + (columns + slant * rows) % wide)
            if (tile := _tile(grid, place, high * wide)) is not None:
                return tile[place]
    return None


def _tile(grid: Grid, place: np.ndarray, size: int) -> np.ndarray | None:
    """Return the colour at each place of a tile; None if drawn cells disagree or a place is unknown."""
    drawn = grid > 0
    tile = np.zeros(size, dtype=np.int8)
    tile[place[drawn]] = grid[drawn]
    return tile if (tile > 0).all() and (tile[place[drawn]] == grid[drawn]).all() else None


def drawn_on(grid: Grid, axis: int) -> Grid | None:
    """Continue the drawn part along an axis into the background with the period that it has."""
    place = box(grid > 0)
    if place is None:
        return None
    own = grid if axis else grid.T
    lines = np.flatnonzero((own > 0).any(0))
    start, stop = lines[0], lines[-1] + 1
    band = own[:, start:stop]
    for period in range(1, band.shape[1]):
        if np.array_equal(band[:, period:], band[:, :-period]):
            break
    else:
        period = band.shape[1]
    made = band[:, (np.arange(own.shape[1]) - start) % period]
    return made if axis else made.T


def around(grid: Grid, centre: Callable[[Grid], tuple[float, float] | None], turns: bool) -> Grid | None:
    """Draw the grid's mirror images (or quarter turns) about a centre into its background."""
    middle = centre(grid)
    if middle is None:
        return None
    down, across = round(2 * middle[0]), round(2 * middle[1])
    if turns:
        return _turned_about(grid, down, across)
    made = np.where(grid == 0, _mirrored(grid, down, 0), grid)
    return np.where(made == 0, _mirrored(made, across, 1), made)


def _turned_about(grid: Grid, down: int, across: int) -> Grid | None:
    if (down + across) % 2:
        return None
    made = grid.copy()
    rows, columns = np.nonzero(grid)
    colours = grid[rows, columns]
    for _ in range(3):
        rows, columns = (2 * columns - across + down) // 2, (down + across - 2 * rows) // 2
        inside = (rows >= 0) & (rows < grid.shape[0]) & (columns >= 0) & (columns < grid.shape[1])
        own = made[rows[inside], columns[inside]]
        made[rows[inside], columns[inside]] = np.where(own == 0, colours[inside], own)
    return made


def _middle(mask: np.ndarray) -> tuple[float, float] | None:
    place = box(mask)
    if place is None:
        return None
    return (place[0].start + place[0].stop - 1) / 2, (place[1].start + place[1].stop - 1) / 2


CENTRES: dict[str, Callable[[Grid], tuple[float, float] | None]] = {
    "the grid": lambda grid: ((grid.shape[0] - 1) / 2, (grid.shape[1] - 1) / 2),
    "all": lambda grid: _middle(grid > 0),
    "the rarest": lambda grid: _middle(grid == rarest(grid)),
    "the commonest": lambda grid: _middle(grid == commonest(grid)),
}

PRIMITIVES: list[Primitive] = [
    *(
        Primitive(f"{'turned' if turns else 'mirrored'} about {name}", partial(around, centre=centre, turns=turns))
        for name, centre in CENTRES.items()
        for turns in (False, True)
    ),
    *named(
        drawn_on_across=partial(drawn_on, axis=1),
        drawn_on_down=partial(drawn_on, axis=0),
    ),
    *named(
        starts=True,
        completed_by_mirrors=completed_by_mirrors,
        completed_by_period=completed_by_period,
        completed_by_slanted_period=partial(completed_by_period, slanted=True),
    ),
]
