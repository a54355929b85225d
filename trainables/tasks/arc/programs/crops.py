"""A part of the grid is cut out: halves, corners, boxes, parts between lines, what is left without repeats."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.programs.primitive import Primitive, box, commonest, named, rarest

MOST_PARTS = 9


def drawn_box(grid: Grid) -> Grid | None:
    place = box(grid > 0)
    return grid[place] if place else None


def box_of_colour(grid: Grid, pick: Callable[[Grid], int]) -> Grid | None:
    colour = pick(grid)
    place = box(grid == colour) if colour else None
    return grid[place] if place else None


def inside(grid: Grid, margin: int = 1) -> Grid | None:
    """Cut off so many cells on each side."""
    return grid[margin:-margin, margin:-margin] if min(grid.shape) > 2 * margin else None


def share(grid: Grid, axis: int, of: int, index: int) -> Grid | None:
    """Return one of equal shares along an axis. Cells that are left over are a line between each two."""
    side = grid.shape[axis]
    size, rest = divmod(side, of)
    if not size or rest not in (0, of - 1):
        return None
    start = index * (size + (rest > 0))
    return grid[start : start + size] if axis == 0 else grid[:, start : start + size]


def quarter(grid: Grid, down: int, right: int) -> Grid | None:
    half = share(grid, 0, 2, down)
    return None if half is None else share(half, 1, 2, right)


def corner(grid: Grid, side: int, down: bool, right: bool) -> Grid | None:
    if min(grid.shape) < side:
        return None
    return (
        grid[-side:, :][:, -side:]
        if down and right
        else (grid[-side:, :side] if down else (grid[:side, -side:] if right else grid[:side, :side]))
    )


def no_repeats(grid: Grid) -> Grid:
    """Merge equal neighbouring rows, and columns, into one."""
    for _ in range(2):
        new = np.ones(len(grid), dtype=bool)
        new[1:] = (grid[1:] != grid[:-1]).any(1)
        grid = grid[new].T
    return grid


def no_empty_lines(grid: Grid) -> Grid | None:
    drawn = grid > 0
    return grid[drawn.any(1)][:, drawn.any(0)] if drawn.any() else None


def smallest_tile(grid: Grid) -> Grid | None:
    """Return the smallest part whose repetition gives the whole grid; None if there is none."""
    tile = grid
    for _ in range(2):
        period = next((p for p in range(1, len(tile)) if (tile[p:] == tile[:-p]).all()), len(tile))
        tile = tile[:period].T
    return tile if tile.size < grid.size else None


def between_lines(grid: Grid) -> list[list[Grid]]:
    """Return the parts between whole rows and columns of one colour, row by row; none if there are no such lines."""
    lines = [int(line[0]) for own in (grid, grid.T) for line in own if line[0] > 0 and (line == line[0]).all()]
    if not lines:
        return []
    colour = max(lines, key=lines.count)
    spans = []
    for own in (grid, grid.T):
        is_line = (own == colour).all(1)
        edges = np.flatnonzero(np.diff(np.concatenate([[True], is_line, [True]]).astype(np.int8)))
        spans.append(list(zip(edges[::2], edges[1::2], strict=True)))
    return [[grid[a:b, c:d] for c, d in spans[1]] for a, b in spans[0]]


def all_parts(grid: Grid) -> list[Grid]:
    return [part for row in between_lines(grid) for part in row]


def part_number(grid: Grid, index: int) -> Grid | None:
    parts = all_parts(grid)
    return parts[index] if -len(parts) <= index < len(parts) else None


def best_part(grid: Grid, rank: Callable[[Grid], float]) -> Grid | None:
    """Return the part between lines with the highest rank; None if several are first."""
    parts = all_parts(grid)
    ranks = [rank(part) for part in parts]
    if not parts or ranks.count(max(ranks)) > 1:
        return None
    return parts[int(np.argmax(ranks))]


def odd_part(grid: Grid) -> Grid | None:
    """Return the one part between lines that no other equals, where all others have an equal one."""
    parts = all_parts(grid)
    marks = [(part.shape, part.tobytes()) for part in parts]
    alone = [part for part, mark in zip(parts, marks, strict=True) if marks.count(mark) == 1]
    return alone[0] if len(alone) == 1 else None


def parts_as_cells(grid: Grid, pick: Callable[[Grid], int]) -> Grid | None:
    """Return a cell for each part between lines."""
    rows = between_lines(grid)
    return np.array([[pick(part) for part in row] for row in rows], dtype=np.int8) if rows and rows[0] else None


def _cells(grid: Grid) -> int:
    return int((grid > 0).sum())


PRIMITIVES: list[Primitive] = [
    *named(
        box=drawn_box,
        inside=inside,
        no_repeats=no_repeats,
        no_empty_lines=no_empty_lines,
        smallest_tile=smallest_tile,
        box_of_the_rarest=partial(box_of_colour, pick=rarest),
        box_of_the_commonest=partial(box_of_colour, pick=commonest),
    ),
    *(Primitive(f"half {i} along {axis}", partial(share, axis=axis, of=2, index=i)) for axis in (0, 1) for i in (0, 1)),
    *(
        Primitive(f"third {i} along {axis}", partial(share, axis=axis, of=3, index=i), 2)
        for axis in (0, 1)
        for i in range(3)
    ),
    *(
        Primitive(f"fourth {i} along {axis}", partial(share, axis=axis, of=4, index=i), 2)
        for axis in (0, 1)
        for i in range(4)
    ),
    *(Primitive(f"quarter {i, j}", partial(quarter, down=i, right=j)) for i in (0, 1) for j in (0, 1)),
    *(
        Primitive(f"corner {side} {i, j}", partial(corner, side=side, down=i, right=j), 2)
        for side in (2, 3)
        for i in (False, True)
        for j in (False, True)
    ),
    *named(
        2,
        top_row=lambda g: g[:1],
        bottom_row=lambda g: g[-1:],
        left_column=lambda g: g[:, :1],
        right_column=lambda g: g[:, -1:],
    ),
    *(Primitive(f"part {i} between lines", partial(part_number, index=i), 2) for i in (0, 1, 2, 3, -1)),
    *named(
        part_with_most_cells=partial(best_part, rank=_cells),
        part_with_fewest_cells=partial(best_part, rank=lambda part: -_cells(part)),
        part_with_most_colours=partial(best_part, rank=lambda part: len(np.unique(part))),
        odd_part=odd_part,
        commonest_of_parts=partial(parts_as_cells, pick=commonest),
    ),
]
