"""Functions of one grid, from which lenses are built: parts, boxes, objects, blocks, tiles and enlargements.

They return None if the grid has no such part. `empty` is the background's colour. Except for ties, no result depends on
a colour's number or on which side comes first. scipy is imported where it is used: who reads canvases from a file needs
none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from trainables.tasks.arc.grids import COLOURS, MAX_SIDE, Grid

Which = Callable[[Grid], np.ndarray]  # a grid to a mask of its cells


def enlarge(grid: Grid, times: tuple[int, int]) -> Grid | None:
    return _whole(lambda g, t: np.kron(g, np.ones(t, dtype=np.int8)), grid, times)


def tile(grid: Grid, times: tuple[int, int]) -> Grid | None:
    return _whole(np.tile, grid, times)


def by_count(
    grid: Grid, how: Callable[[Grid, tuple[int, int]], Grid | None], count: Callable[[Grid], int]
) -> Grid | None:
    return how(grid, (count(grid),) * 2)


def count_colours(grid: Grid, empty: int) -> int:
    return len(np.unique(grid[grid != empty]))


def count_cells(grid: Grid, empty: int) -> int:
    return int((grid != empty).sum())


def _whole(how: Callable[[Grid, tuple[int, int]], Grid], grid: Grid, times: tuple[int, int]) -> Grid | None:
    """Return None if the result would have no cells or be larger than ARC allows."""
    fits = all(0 < side * factor <= MAX_SIDE for side, factor in zip(grid.shape, times, strict=True))
    return how(grid, times) if fits else None


def part_size(shape: tuple[int, ...], times: tuple[int, int], line: int) -> tuple[int, ...] | None:
    """Return the size of each of k x m equal parts with lines of `line` cells between; None if there is a remainder."""
    parts = [divmod(side - line * (k - 1), k) for side, k in zip(shape, times, strict=True)]
    return tuple(size for size, _ in parts) if all(size > 0 and not rest for size, rest in parts) else None


def part(grid: Grid, times: tuple[int, int], line: int, place: tuple[int, ...]) -> Grid | None:
    size = part_size(grid.shape, times, line)
    if size is None:
        return None
    top, left = (at * (side + line) for at, side in zip(place, size, strict=True))
    return grid[top : top + size[0], left : left + size[1]]


def block_size(shape: tuple[int, ...], target: tuple[int, ...], line: int) -> tuple[int, ...] | None:
    """Return the size of a block if the grid has as many blocks as the target has cells."""
    size = part_size(shape, (target[0], target[1]), line)
    return size if size and max(size) > 1 else None


def shrink(grid: Grid, block: tuple[int, ...], line: int, pick: Callable[[Grid], int]) -> Grid | None:
    counts = [divmod(side + line, size + line) for side, size in zip(grid.shape, block, strict=True)]
    if any(rest or not count for count, rest in counts):
        return None
    times = (counts[0][0], counts[1][0])
    cells = [[pick(part(grid, times, line, (i, j))) for j in range(times[1])] for i in range(times[0])]  # type: ignore[arg-type]
    return np.array(cells, dtype=np.int8)


def commonest(grid: Grid) -> int:
    return int(np.bincount(grid.ravel(), minlength=COLOURS).argmax())


def rarest(grid: Grid) -> int:
    counts = np.bincount(grid.ravel(), minlength=COLOURS)
    return int(np.where(counts > 0, counts, grid.size + 1).argmin())


def drawn(grid: Grid, empty: int) -> int:
    """Return the commonest colour other than the background, or the background if there is no other."""
    return commonest(grid[grid != empty]) if (grid != empty).any() else empty


def no_repeats(grid: Grid) -> Grid:
    """Merge equal neighbouring rows, and columns, into one."""
    for _ in range(2):
        grid = grid[[0, *(i for i in range(1, len(grid)) if (grid[i] != grid[i - 1]).any())]].T
    return grid


def no_empty_lines(grid: Grid, empty: int) -> Grid | None:
    drawn = grid != empty
    return grid[drawn.any(1)][:, drawn.any(0)] if drawn.any() else None


def corner(grid: Grid, height: int, width: int, down: bool, right: bool) -> Grid | None:
    if grid.shape[0] < height or grid.shape[1] < width:
        return None
    top, left = down * (grid.shape[0] - height), right * (grid.shape[1] - width)
    return grid[top : top + height, left : left + width]


def box_of(grid: Grid, which: Which, margin: int) -> Grid | None:
    """Return the bounding box of the chosen cells, `margin` cells wider on each side (narrower if negative)."""
    mask = which(grid)
    if not mask.any():
        return None
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    top, bottom = rows[0] - margin, rows[-1] + margin + 1
    left, right = columns[0] - margin, columns[-1] + margin + 1
    inside = 0 <= top < bottom <= grid.shape[0] and 0 <= left < right <= grid.shape[1]
    return grid[top:bottom, left:right] if inside else None


# Scores by which one object is chosen, the largest first. Arguments: the grid of the object's box, its mask there, and
# how many objects have an equal mask, itself included.
Rank = Callable[[Grid, np.ndarray, int], float]
RANKS: dict[str, Rank] = {
    "largest": lambda grid, mask, _: mask.sum(),
    "smallest": lambda grid, mask, _: -mask.sum(),
    "largest box": lambda grid, mask, _: mask.size,
    "most colours": lambda grid, mask, _: len(np.unique(grid[mask])),
    "fewest colours": lambda grid, mask, _: -len(np.unique(grid[mask])),
    "most symmetric": lambda grid, mask, _: max(np.mean(mask == mask[:, ::-1]), np.mean(mask == mask[::-1])),
    "least symmetric": lambda grid, mask, _: -max(np.mean(mask == mask[:, ::-1]), np.mean(mask == mask[::-1])),
    "rarest shape": lambda grid, mask, shared: -shared,
    "commonest shape": lambda grid, mask, shared: shared,
    "most holes": lambda grid, mask, _: holes(mask),
    "rarest colours": lambda grid, mask, _: np.mean(grid[mask] == rarest(grid)),
}


def holes(mask: np.ndarray) -> int:
    """Count the cells outside a mask that it encloses."""
    from scipy import ndimage

    return int((ndimage.binary_fill_holes(mask) & ~mask).sum())


def chosen_object(grid: Grid, empty: int, alike: bool, rank: Rank) -> Grid | None:
    """Return the box of the object with the highest rank.

    An object is cells that touch at sides or corners: of one colour (`alike`), or of any colours but the background.
    """
    found = _objects_of(grid, empty, alike)
    return found[int(np.argmax([rank(*each) for each in found]))][0] if found else None


def object_sizes(grid: Grid, empty: int, alike: bool) -> set[tuple[int, ...]]:
    """Return the sizes of the boxes of all objects; see `chosen_object`."""
    return {box.shape for box, _, _ in _objects_of(grid, empty, alike)}


def _objects_of(grid: Grid, empty: int, alike: bool) -> list[tuple[Grid, np.ndarray, int]]:
    return _objects(grid.tobytes(), grid.shape, grid.dtype.str, empty, alike)


@lru_cache(maxsize=64)  # every rank asks for the objects of the same few grids
def _objects(
    cells: bytes, shape: tuple[int, ...], dtype: str, empty: int, alike: bool
) -> list[tuple[Grid, np.ndarray, int]]:
    """Return the arguments of a `Rank` for each object of a grid."""
    from scipy import ndimage

    grid = np.frombuffer(cells, dtype).reshape(shape)
    colours = [c for c in np.unique(grid) if c != empty] if alike else [None]
    boxes, masks = [], []
    for colour in colours:
        labels, _ = ndimage.label(grid == colour if alike else grid != empty, structure=np.ones((3, 3)))
        for number, place in enumerate(ndimage.find_objects(labels), 1):
            boxes.append(grid[place])
            masks.append(labels[place] == number)
    marks = [(mask.shape, mask.tobytes()) for mask in masks]
    shared = Counter(marks)
    return [(box, mask, shared[mark]) for box, mask, mark in zip(boxes, masks, marks, strict=True)]
