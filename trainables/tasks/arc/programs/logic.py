"""A grid and the task's input: what one cuts out of the other, or draws over it."""

from __future__ import annotations

import numpy as np

from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.programs.primitive import Primitive, box


def over(grid: Grid, source: Grid) -> Grid | None:
    """Draw the grid over the input."""
    return np.where(grid > 0, grid, source) if grid.shape == source.shape else None


def under(grid: Grid, source: Grid) -> Grid | None:
    """Draw the grid under the input."""
    return np.where(source > 0, source, grid) if grid.shape == source.shape else None


def within(grid: Grid, source: Grid) -> Grid | None:
    """Keep the input where the grid is drawn."""
    return np.where(grid > 0, source, np.int8(0)) if grid.shape == source.shape else None


def outside(grid: Grid, source: Grid) -> Grid | None:
    """Keep the input where the grid is not drawn."""
    return np.where(grid > 0, np.int8(0), source) if grid.shape == source.shape else None


def new(grid: Grid, source: Grid) -> Grid | None:
    """Keep what is drawn where the input is not."""
    return np.where(source > 0, np.int8(0), grid) if grid.shape == source.shape else None


def same(grid: Grid, source: Grid) -> Grid | None:
    """Keep the cells in which both are equal."""
    return np.where(grid == source, grid, np.int8(0)) if grid.shape == source.shape else None


def cut_from_the_input(grid: Grid, source: Grid) -> Grid | None:
    """Return the input in the box around what the grid draws."""
    place = box(grid > 0) if grid.shape == source.shape else None
    return source[place] if place else None


def box_of_what_changed(grid: Grid, source: Grid) -> Grid | None:
    place = box(grid != source) if grid.shape == source.shape else None
    return grid[place] if place else None


PRIMITIVES: list[Primitive] = [
    Primitive(how.__name__.replace("_", " "), how, 1, reads_input=True)
    for how in (over, under, within, outside, new, same, cut_from_the_input, box_of_what_changed)
]
