"""What a per-cell network sees of an ARC task: for each grid a canvas of the output's size, in several planes.

Plane 0 is the input through the lens that agrees best with the demonstrations' outputs; the others that fit follow.
A task that no lens fits has no canvas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainables.learners.arc_lenses import Lens, candidates
from trainables.tasks.arc import Puzzle
from trainables.tasks.arc_grids import COLOURS, Grid
from trainables.tasks.arc_views import varying_colours

OUTSIDE = COLOURS  # no colour: beyond a grid's edge, or a plane that a task does not use
PLANES = 6  # at most; 99 % of what fits beside them agrees less


@dataclass(frozen=True, eq=False)
class Canvas:
    """`lenses`: names, best first. `demonstrations`: (planes (PLANES, h, w), output (h, w)); `tests`: planes.
    `exact`: the first lens alone gives every demonstration's output. `free_colours`: may change their names."""

    lenses: tuple[str, ...]
    demonstrations: tuple[tuple[np.ndarray, Grid], ...]
    tests: tuple[np.ndarray, ...]
    exact: bool
    free_colours: np.ndarray

    @property
    def side(self) -> int:
        """The longest side that it is trained on."""
        return max(max(target.shape) for _, target in self.demonstrations)


def canvas(puzzle: Puzzle) -> Canvas | None:
    """The task on a canvas, or None where no lens gives the size of every output."""
    fitting: list[tuple[float, str, Lens]] = []
    for name, lens in candidates(puzzle):
        agreement = _agreement(puzzle, lens)
        if agreement is not None:
            fitting.append((agreement, name, lens))
    fitting.sort(key=lambda fit: -fit[0])  # stable: of equals the simplest first
    chosen: dict[bytes, tuple[str, Lens]] = {}
    sizes: list[tuple[int, ...]] | None = None
    for _, name, lens in fitting:
        seen = [lens(source) for source in puzzle.test_inputs]
        if any(grid is None or not min(grid.shape) >= 1 for grid in seen):
            continue
        shapes = [grid.shape for grid in seen if grid is not None]
        sizes = sizes or shapes
        if shapes == sizes:  # a lens that gives the same grids as one before adds nothing
            everything = [*(lens(source) for source, _ in puzzle.demonstrations), *seen]
            chosen.setdefault(b"|".join(grid.tobytes() for grid in everything if grid is not None), (name, lens))
    if not chosen:
        return None
    names, lenses = zip(*list(chosen.values())[:PLANES], strict=True)
    demonstrations = tuple((_planes(lenses, source), target) for source, target in puzzle.demonstrations)
    tests = tuple(_planes(lenses, source) for source in puzzle.test_inputs)
    exact = all(np.array_equal(planes[0], target) for planes, target in demonstrations)
    return Canvas(names, demonstrations, tests, exact, varying_colours(puzzle))


def _agreement(puzzle: Puzzle, lens: Lens) -> float | None:
    """The share of output cells that the lens alone gets right, over the demonstrations; None if it does not fit."""
    shares = []
    for source, target in puzzle.demonstrations:
        seen = lens(source)
        if seen is None or seen.shape != target.shape:
            return None
        shares.append(float(np.mean(seen == target)))
    return float(np.mean(shares))


def _planes(lenses: tuple[Lens, ...], source: Grid) -> np.ndarray:
    seen = [lens(source) for lens in lenses]
    shape = next(grid.shape for grid in seen if grid is not None)
    planes = np.full((PLANES, *shape), OUTSIDE, dtype=np.int8)
    for index, grid in enumerate(seen):
        planes[index] = grid
    return planes
