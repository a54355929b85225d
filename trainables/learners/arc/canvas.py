"""The input of a per-cell network: for each input grid a canvas of the output's size, in several planes.

A lens is a fixed transformation of an input grid that predicts the output's size (`lenses.py`). Plane 0 is the input
under the lens that agrees best with the demonstrations' outputs; the other lenses that fit give the other planes. A
task that no lens fits has no canvas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trainables.learners.arc.lenses import Lens, candidates
from trainables.tasks.arc.grids import COLOURS, MAX_SIDE, Grid
from trainables.tasks.arc.task import Puzzle
from trainables.tasks.arc.views import varying_colours

OUTSIDE = COLOURS  # the value of cells beyond a grid's edge, and of planes that a task does not use
PLANES = 6  # at most; 99 % of further lenses agree less

Sizes = tuple[tuple[int, ...], ...]  # the sizes of a task's test outputs


class Fit(NamedTuple):
    """A lens that gives every demonstration's output size; `agreement`: the share of output cells that it gets
    right."""

    agreement: float
    name: str
    lens: Lens


Chooser = Callable[[Mapping[Sizes, Sequence[Fit]]], Sizes]  # chooses among proposed sizes


@dataclass(frozen=True, eq=False)
class Canvas:
    """A task as planes.

    `lenses`: names, best first. `demonstrations`: (planes (PLANES, h, w), output (h, w)). `tests`: planes. `exact`: the
    first lens gives every demonstration's output exactly. `free_colours`: colours that may be permuted.
    """

    lenses: tuple[str, ...]
    demonstrations: tuple[tuple[np.ndarray, Grid], ...]
    tests: tuple[np.ndarray, ...]
    exact: bool
    free_colours: np.ndarray

    @property
    def side(self) -> int:
        """The longest side of the demonstrations' outputs."""
        return max(max(target.shape) for _, target in self.demonstrations)


def canvas(puzzle: Puzzle, choose: Chooser | None = None) -> Canvas | None:
    """Return the task's canvas, or None if no lens gives the size of every output.

    Lenses may predict different sizes of the test outputs. Then `choose` decides, or, without it, the lens that agrees
    best with the demonstrations.
    """
    found = hypotheses(puzzle)
    if not found:
        return None
    sizes = choose(found) if choose and len(found) > 1 else next(iter(found))
    chosen: dict[bytes, Fit] = {}
    for fit in found[sizes]:  # skip lenses that give the same grids as an earlier one
        grids = [fit.lens(source) for source in (*(s for s, _ in puzzle.demonstrations), *puzzle.test_inputs)]
        chosen.setdefault(b"|".join(grid.tobytes() for grid in grids if grid is not None), fit)
    fits = list(chosen.values())[:PLANES]
    demonstrations = tuple((_planes(fits, source), target) for source, target in puzzle.demonstrations)
    tests = tuple(_planes(fits, source) for source in puzzle.test_inputs)
    exact = all(np.array_equal(planes[0], target) for planes, target in demonstrations)
    return Canvas(tuple(fit.name for fit in fits), demonstrations, tests, exact, varying_colours(puzzle))


def hypotheses(puzzle: Puzzle) -> dict[Sizes, list[Fit]]:
    """Return the proposed sizes of the test outputs and the lenses that propose them, both by agreement, best first.

    On ties the simpler lens comes first.
    """
    fits = [
        Fit(share, name, lens) for name, lens in candidates(puzzle) if (share := _agreement(puzzle, lens)) is not None
    ]
    found: dict[Sizes, list[Fit]] = {}
    for fit in sorted(fits, key=lambda fit: -fit.agreement):
        seen = [fit.lens(source) for source in puzzle.test_inputs]
        if all(grid is not None and 1 <= min(grid.shape) <= max(grid.shape) <= MAX_SIDE for grid in seen):
            found.setdefault(tuple(grid.shape for grid in seen if grid is not None), []).append(fit)
    return found


def _agreement(puzzle: Puzzle, lens: Lens) -> float | None:
    """Return the share of the demonstrations' output cells that the lens gets right; None if it does not fit."""
    shares = []
    for source, target in puzzle.demonstrations:
        seen = lens(source)
        if seen is None or seen.shape != target.shape:
            return None
        shares.append(np.count_nonzero(seen == target) / target.size)
    return float(np.mean(shares))


def _planes(fits: Sequence[Fit], source: Grid) -> np.ndarray:
    seen = [fit.lens(source) for fit in fits]
    shape = next(grid.shape for grid in seen if grid is not None)
    planes = np.full((PLANES, *shape), OUTSIDE, dtype=np.int8)
    for index, grid in enumerate(seen):
        planes[index] = grid
    return planes
