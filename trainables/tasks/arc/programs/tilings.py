"""The grid is repeated, enlarged, shrunk, mirrored outwards or put into itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from trainables.tasks.arc.grids import MAX_SIDE, Grid
from trainables.tasks.arc.programs.primitive import Primitive, commonest, counts, named


def enlarge(grid: Grid, times: tuple[int, int]) -> Grid | None:
    return grid.repeat(times[0], 0).repeat(times[1], 1) if _fits(grid, times) else None


def tile(grid: Grid, times: tuple[int, int]) -> Grid | None:
    return np.tile(grid, times) if _fits(grid, times) else None


def _fits(grid: Grid, times: tuple[int, int]) -> bool:
    return all(0 < side * k <= MAX_SIDE for side, k in zip(grid.shape, times, strict=True))


def by_number(grid: Grid, how: Callable[..., Grid | None], number: Callable[[Grid], int]) -> Grid | None:
    """Enlarge or tile as often as the grid says itself."""
    times = number(grid)
    return how(grid, (times, times)) if 1 < times <= MAX_SIDE else None


def mosaic(grid: Grid, first: Callable[[Grid], Grid], axis: int, before: bool = False) -> Grid | None:
    """Set the grid beside a transform of itself."""
    other = first(grid)
    if other.shape[1 - axis] != grid.shape[1 - axis] or other.shape[axis] + grid.shape[axis] > MAX_SIDE:
        return None
    return np.concatenate([other, grid] if before else [grid, other], axis)


def four_mirrors(grid: Grid) -> Grid | None:
    if max(grid.shape) * 2 > MAX_SIDE:
        return None
    wide = np.concatenate([grid, grid[:, ::-1]], 1)
    return np.concatenate([wide, wide[::-1]], 0)


def four_mirrors_inwards(grid: Grid) -> Grid | None:
    return four_mirrors(np.rot90(grid, 2))


def four_turns(grid: Grid) -> Grid | None:
    """Set the grid and its three quarter turns into the corners, clockwise."""
    if grid.shape[0] != grid.shape[1] or len(grid) * 2 > MAX_SIDE:
        return None
    return np.block([[grid, np.rot90(grid, -1)], [np.rot90(grid, 1), np.rot90(grid, 2)]])


def into_itself(grid: Grid, chosen: Callable[[Grid], np.ndarray]) -> Grid | None:
    """Return a grid of the grid's copies, one for each chosen cell."""
    if not _fits(grid, grid.shape):
        return None
    return np.kron(chosen(grid), grid).astype(np.int8)


def coloured_copies(grid: Grid) -> Grid | None:
    """Return a grid of the grid's shape, in each cell's own colour."""
    return np.kron(grid, grid > 0).astype(np.int8) if _fits(grid, grid.shape) else None


def shrink(grid: Grid, by: int, pick: Callable[[np.ndarray], np.ndarray]) -> Grid | None:
    """Return a cell for each block of so many cells."""
    height, width = grid.shape
    if height % by or width % by:
        return None
    return pick(grid.reshape(height // by, by, width // by, by)).astype(np.int8)


def to_three(grid: Grid) -> Grid | None:
    """Return a cell for each of 3x3 equal blocks, empty if the block is."""
    height, width = grid.shape
    if height % 3 or width % 3 or height * width == 9:
        return None
    return grid.reshape(3, height // 3, 3, width // 3).max((1, 3))


def framed(grid: Grid, value: Callable[[Grid], int]) -> Grid | None:
    if max(grid.shape) + 2 > MAX_SIDE:
        return None
    made = np.full((len(grid) + 2, grid.shape[1] + 2), value(grid), dtype=np.int8)
    made[1:-1, 1:-1] = grid
    return made


def edges_repeated(grid: Grid) -> Grid | None:
    """Repeat the outermost rows and columns once."""
    if max(grid.shape) + 2 > MAX_SIDE:
        return None
    rows, columns = (np.clip(np.arange(-1, side + 1), 0, side - 1) for side in grid.shape)
    return grid[rows][:, columns]


PRIMITIVES: list[Primitive] = [
    *(Primitive(f"enlarge {k}", partial(enlarge, times=(k, k)), 1 + (k > 3)) for k in (2, 3, 4, 5)),
    *(
        Primitive(f"tile {times}", partial(tile, times=times), 1 + (max(times) > 2))
        for times in ((2, 2), (1, 2), (2, 1), (3, 3), (1, 3), (3, 1))
    ),
    *(Primitive(f"stretch {times}", partial(enlarge, times=times), 2) for times in ((1, 2), (2, 1), (1, 3), (3, 1))),
    *named(
        four_mirrors=four_mirrors,
        four_mirrors_inwards=four_mirrors_inwards,
        four_turns=four_turns,
        mirror_to_the_right=partial(mosaic, first=np.fliplr, axis=1),
        mirror_to_the_left=partial(mosaic, first=np.fliplr, axis=1, before=True),
        mirror_below=partial(mosaic, first=np.flipud, axis=0),
        mirror_above=partial(mosaic, first=np.flipud, axis=0, before=True),
        into_itself=partial(into_itself, chosen=lambda grid: grid > 0),
        into_its_commonest=partial(into_itself, chosen=lambda grid: grid == commonest(grid)),
        into_its_gaps=partial(into_itself, chosen=lambda grid: grid == 0),
        coloured_copies=coloured_copies,
        enlarge_by_colours=partial(by_number, how=enlarge, number=lambda grid: int((counts(grid) > 0).sum())),
        enlarge_by_cells=partial(by_number, how=enlarge, number=lambda grid: int((grid > 0).sum())),
        tile_by_colours=partial(by_number, how=tile, number=lambda grid: int((counts(grid) > 0).sum())),
        halve=partial(shrink, by=2, pick=lambda blocks: blocks.max((1, 3))),
        to_three=to_three,
    ),
    *named(
        2,
        turned_to_the_right=partial(mosaic, first=lambda grid: np.rot90(grid, 2), axis=1),
        turned_below=partial(mosaic, first=lambda grid: np.rot90(grid, 2), axis=0),
        third_of_the_size=partial(shrink, by=3, pick=lambda blocks: blocks.max((1, 3))),
        framed=partial(framed, value=lambda grid: 0),
        framed_in_a_colour=partial(framed, value=lambda grid: int(np.argmax(counts(grid) > 0))),
        edges_repeated=edges_repeated,
    ),
]
