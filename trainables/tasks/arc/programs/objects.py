"""Objects: cells that touch. What they measure, and how an object is chosen among several.

An object's cells have one colour (`alike`) or any but the background, and touch at sides (4) or at corners too (8).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import ndimage

from trainables.tasks.arc.grids import Grid

TOUCH = {4: None, 8: np.ones((3, 3))}
MOST = 60  # a grid of more has no objects that anyone would see, and would take long


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a grid in reading order of their boxes. `labels`: the number of each cell's object from 1, 0 is
    none; `boxes`: slices; `masks`: cells within a box. The properties are arrays with an entry for each object."""

    grid: Grid
    labels: np.ndarray
    boxes: list[tuple[slice, slice]]
    masks: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.boxes)

    @cached_property
    def size(self) -> np.ndarray:
        return np.bincount(self.labels.ravel(), minlength=len(self) + 1)[1:]

    @cached_property
    def height(self) -> np.ndarray:
        return np.array([mask.shape[0] for mask in self.masks])

    @cached_property
    def width(self) -> np.ndarray:
        return np.array([mask.shape[1] for mask in self.masks])

    @cached_property
    def top(self) -> np.ndarray:
        return np.array([rows.start for rows, _ in self.boxes])

    @cached_property
    def left(self) -> np.ndarray:
        return np.array([columns.start for _, columns in self.boxes])

    @cached_property
    def colours(self) -> np.ndarray:
        """How many colours each has."""
        return np.array([len(np.unique(self.grid[b][m])) for b, m in zip(self.boxes, self.masks, strict=True)])

    @cached_property
    def colour(self) -> np.ndarray:
        """The commonest colour of each."""
        cells = [self.grid[b][m] for b, m in zip(self.boxes, self.masks, strict=True)]
        return np.array([np.bincount(own).argmax() for own in cells])

    @cached_property
    def minority(self) -> np.ndarray:
        """The cells of each that do not have its commonest colour."""
        pairs = zip(self.boxes, self.masks, self.colour, strict=True)
        return np.array([int((self.grid[b][m] != c).sum()) for b, m, c in pairs])

    @cached_property
    def minority_colour(self) -> np.ndarray:
        """The rarest colour of each."""
        cells = [self.grid[b][m] for b, m in zip(self.boxes, self.masks, strict=True)]
        found = [np.bincount(own, minlength=10) for own in cells]
        return np.array([np.where(f > 0, f, 1000).argmin() for f in found])

    @cached_property
    def symmetric(self) -> np.ndarray:
        """How many of left-right and top-bottom mirrors leave each as it is, colours included."""
        found = []
        for place, mask in zip(self.boxes, self.masks, strict=True):
            own = np.where(mask, self.grid[place], 0)
            found.append(int(np.array_equal(own, own[::-1])) + int(np.array_equal(own, own[:, ::-1])))
        return np.array(found)

    @cached_property
    def holes(self) -> np.ndarray:
        """Into how many enclosed areas each divides its box."""
        return np.array([_enclosed_areas(mask) for mask in self.masks])

    @cached_property
    def solid(self) -> np.ndarray:
        """Whether each fills its box."""
        return (self.size == self.height * self.width).astype(int)

    @cached_property
    def square(self) -> np.ndarray:
        return (self.height == self.width).astype(int)

    @cached_property
    def alike(self) -> np.ndarray:
        """How many objects have the same shape, itself included."""
        marks = [(mask.shape, mask.tobytes()) for mask in self.masks]
        found = Counter(marks)
        return np.array([found[mark] for mark in marks])

    @cached_property
    def same_colour(self) -> np.ndarray:
        """How many objects have the same commonest colour, itself included."""
        return np.bincount(self.colour)[self.colour]

    @cached_property
    def inner(self) -> np.ndarray:
        """Whether each stays away from the grid's edge."""
        high, wide = self.grid.shape
        away = [a.start > 0 and a.stop < high and b.start > 0 and b.stop < wide for a, b in self.boxes]
        return np.array(away, dtype=int)


def _enclosed_areas(mask: np.ndarray) -> int:
    if min(mask.shape) < 3 or mask.all():
        return 0
    labels, count = ndimage.label(~mask)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return count - len(np.unique(edge[edge > 0]))


def objects(grid: Grid, touch: int = 8, alike: bool = True) -> Objects:
    """Return a grid's objects. Those of one colour are looked for colour by colour."""
    return _objects(grid.tobytes(), grid.shape, touch, alike)


def areas(grid: Grid) -> Objects:
    """Return the connected areas of the background that do not reach the grid's edge, as objects."""
    empty = (grid == 0).astype(np.int8)
    found = objects(empty, 4)
    kept = np.flatnonzero(found.inner)
    names = np.zeros(len(found) + 1, dtype=int)
    for number, old in enumerate(kept, 1):
        names[old + 1] = number
    return Objects(empty, names[found.labels], [found.boxes[i] for i in kept], [found.masks[i] for i in kept])


@lru_cache(maxsize=2048)  # every choice asks for the objects of the same grids
def _objects(cells: bytes, shape: tuple[int, int], touch: int, alike: bool) -> Objects:
    grid = np.frombuffer(cells, np.int8).reshape(shape)
    boxes, labels, found = [], np.zeros(shape, dtype=np.int32), []
    for colour in np.unique(grid[grid > 0]) if alike else [None]:
        own, _ = ndimage.label(grid == colour if alike else grid > 0, structure=TOUCH[touch])
        for number, place in enumerate(ndimage.find_objects(own), 1):
            found.append((place, own[place] == number))
        if len(found) > MOST:
            found = []
            break
    found.sort(key=lambda one: (one[0][0].start, one[0][1].start))
    for number, (place, mask) in enumerate(found, 1):
        labels[place][mask] = number
        boxes.append(place)
    return Objects(grid, labels, boxes, [mask for _, mask in found])


# What is compared to choose an object, the largest first.
RANKS: dict[str, Callable[[Objects], np.ndarray]] = {
    "largest": lambda own: own.size,
    "smallest": lambda own: -own.size,
    "largest box": lambda own: own.height * own.width,
    "smallest box": lambda own: -own.height * own.width,
    "tallest": lambda own: own.height,
    "shortest": lambda own: -own.height,
    "widest": lambda own: own.width,
    "narrowest": lambda own: -own.width,
    "highest": lambda own: -own.top,
    "lowest": lambda own: own.top + own.height,
    "leftmost": lambda own: -own.left,
    "rightmost": lambda own: own.left + own.width,
    "of most colours": lambda own: own.colours,
    "of fewest colours": lambda own: -own.colours,
    "most speckled": lambda own: own.minority,
    "most symmetric": lambda own: own.symmetric,
    "least symmetric": lambda own: -own.symmetric,
    "of most holes": lambda own: own.holes,
    "of fewest holes": lambda own: -own.holes,
    "solid": lambda own: own.solid,
    "not solid": lambda own: -own.solid,
    "square": lambda own: own.square,
    "of the commonest shape": lambda own: own.alike,
    "of the rarest shape": lambda own: -own.alike,
    "of the commonest colour": lambda own: own.same_colour,
    "of the rarest colour": lambda own: -own.same_colour,
    "inner": lambda own: own.inner,
    "at the edge": lambda own: -own.inner,
}
