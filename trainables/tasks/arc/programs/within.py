"""Every object is changed in its own box: filled, mirrored, framed, measured.

The measures paint each object with a small number, so that a rule may say "those of size 3 become red".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.programs.objects import Objects, areas, objects
from trainables.tasks.arc.programs.picks import KINDS
from trainables.tasks.arc.programs.primitive import LARGEST, Primitive, counts, named, small, wider


def in_each_box(grid: Grid, change: Callable[[Grid, np.ndarray], Grid], kind: tuple[int, bool]) -> Grid | None:
    """Apply a change (box, mask of the object's cells) to each object's box. Objects later in reading order are on
    top."""
    found = objects(grid, *kind)
    if not len(found):
        return None
    made = grid.copy()
    for place, mask in zip(found.boxes, found.masks, strict=True):
        made[place] = change(made[place], mask)
    return made


def filled_box(cells: Grid, mask: np.ndarray) -> Grid:
    colour = np.bincount(cells[mask]).argmax()
    return np.where(cells == 0, np.int8(colour), cells)


def mirrored_across(cells: Grid, mask: np.ndarray) -> Grid:
    return np.where(mask | mask[:, ::-1], np.where(mask, cells, 0)[:, ::-1], cells)


def mirrored_down(cells: Grid, mask: np.ndarray) -> Grid:
    return np.where(mask | mask[::-1], np.where(mask, cells, 0)[::-1], cells)


def symmetrised(cells: Grid, mask: np.ndarray) -> Grid:
    """Draw the object's mirror images under it."""
    own = np.where(mask, cells, 0)
    for other in (own[:, ::-1], own[::-1], own[::-1, ::-1]):
        cells = np.where(cells == 0, other, cells)
    return cells


def own_commonest(cells: Grid, mask: np.ndarray) -> Grid:
    return np.where(mask, np.int8(np.bincount(cells[mask]).argmax()), cells)


def own_rarest(cells: Grid, mask: np.ndarray) -> Grid:
    found = np.bincount(cells[mask], minlength=10)
    return np.where(mask, np.int8(np.where(found > 0, found, 1000).argmin()), cells)


def ring(cells: Grid, mask: np.ndarray) -> Grid:
    """Return how deep each cell of a box lies, 1 at its edge."""
    rows, columns = (np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) for n in cells.shape)
    return small(np.minimum(rows[:, None], columns[None]))


def rings_exchanged(cells: Grid, mask: np.ndarray) -> Grid:
    """Exchange the two colours of an object."""
    colours = np.unique(cells[mask])
    if len(colours) != 2:
        return cells
    a, b = colours
    return np.where(cells == a, b, np.where(cells == b, a, cells))


def measured(grid: Grid, find: Callable[[Grid], Objects], measure: Callable[[Objects], np.ndarray]) -> Grid | None:
    """Paint each object with a number. None if they have one number only."""
    found = find(grid)
    if not len(found):
        return None
    return np.concatenate([[0], small(measure(found))])[found.labels].astype(np.int8)


def place_in_order(values: np.ndarray) -> np.ndarray:
    """Return each value's place among the different values, the largest is 1."""
    return len(np.unique(values)) - np.unique(values, return_inverse=True)[1]


def from_below(values: np.ndarray) -> np.ndarray:
    return 1 + np.unique(values, return_inverse=True)[1]


MEASURES: dict[str, Callable[[Objects], np.ndarray]] = {
    "size": lambda own: own.size,
    "place by size": lambda own: place_in_order(own.size),
    "place by size from below": lambda own: from_below(own.size),
    "height": lambda own: own.height,
    "width": lambda own: own.width,
    "longer side": lambda own: np.maximum(own.height, own.width),
    "direction": lambda own: 2 + np.sign(own.height - own.width),
    "holes": lambda own: 1 + own.holes,
    "solid": lambda own: 1 + own.solid,
    "square": lambda own: 1 + own.square,
    "solid and square": lambda own: 1 + own.solid * own.square,
    "symmetric": lambda own: 1 + own.symmetric,
    "colours": lambda own: own.colours,
    "alike": lambda own: own.alike,
    "inner": lambda own: 1 + own.inner,
    "order": lambda own: 1 + np.arange(len(own)),
    "order from the left": lambda own: from_below(own.left),
    "order from above": lambda own: from_below(own.top),
    "main colour": lambda own: own.colour,
    "rarest colour": lambda own: own.minority_colour,
    "speckles": lambda own: 1 + own.minority,
    "odd size": lambda own: 1 + own.size % 2,
    "odd width": lambda own: 1 + own.width % 2,
}
CHANGES = (filled_box, mirrored_across, mirrored_down, symmetrised, own_commonest, own_rarest, rings_exchanged)
FINDERS: dict[str, Callable[[Grid], Objects]] = {
    **{kind: partial(objects, touch=touch, alike=alike) for kind, (touch, alike) in KINDS.items()},
    "enclosed area": areas,
}


def enclosed(grid: Grid) -> Grid | None:
    """Return the background that no way over sides leads out of, as ones."""
    found = areas(grid)
    return (found.labels > 0).astype(np.int8) if len(found) else None


def filled_holes(grid: Grid) -> Grid | None:
    """Fill enclosed areas with the colour that stands to their left."""
    found = areas(grid)
    if not len(found):
        return None
    column = np.where(grid > 0, np.arange(grid.shape[1]), 0)
    nearest = np.maximum.accumulate(column, 1)
    return np.where(found.labels > 0, np.take_along_axis(grid, nearest, 1), grid)


def depth(grid: Grid) -> Grid:
    """Return how far each drawn cell is from the nearest cell of another colour or from outside, over corners too."""
    made = (grid > 0).astype(np.int8)
    for colour in np.flatnonzero(counts(grid)):
        outside = np.ones((len(grid) + 2, grid.shape[1] + 2), dtype=bool)
        outside[1:-1, 1:-1] = grid != colour
        for _ in range(LARGEST - 1):
            outside = wider(outside)
            if outside.all():
                break
            made += ~outside[1:-1, 1:-1]
    return made


PRIMITIVES: list[Primitive] = [
    *(
        Primitive(
            f"{change.__name__.replace('_', ' ')} of each {kind}",
            partial(in_each_box, change=change, kind=KINDS[kind]),
            1 + (kind != "figure"),
        )
        for change in CHANGES
        for kind in ("figure", "object")
    ),
    *named(enclosed=enclosed, filled_holes=filled_holes, depth=depth),
    Primitive("rings of boxes", partial(in_each_box, change=ring, kind=KINDS["object"]), 2),
    *(
        Primitive(f"{name} of each {kind}", partial(measured, find=find, measure=measure), 2, expands=False)
        for kind, find in FINDERS.items()
        for name, measure in MEASURES.items()
        if not (kind == "enclosed area" and "colour" in name)
    ),
]
