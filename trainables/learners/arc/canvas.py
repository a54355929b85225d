"""The input of a per-cell network: for each input grid a canvas of the output's size, in several planes.

A lens is a fixed transformation of an input grid that predicts the output's size (`lenses.py`). Plane 0 is the input
under the lens that agrees best with the demonstrations' outputs; the other lenses that fit give the other planes.
Outputs of programs (`tasks/arc/programs`) may be planes beside them. A task that nothing fits has no canvas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainables.learners.arc.lenses import Lens, candidates
from trainables.tasks.arc.grids import COLOURS, MAX_SIDE, Grid
from trainables.tasks.arc.task import Puzzle
from trainables.tasks.arc.views import varying_colours

if TYPE_CHECKING:  # it imports scipy, without which canvases can be read from a file
    from trainables.tasks.arc.programs.search import Program

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

    `lenses`: names of lenses and programs, best first. `demonstrations`: (planes (PLANES, h, w), output (h, w)).
    `tests`: planes. `exact`: the first plane is every demonstration's output exactly. `free_colours`: colours that may
    be permuted.
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


class Image(NamedTuple):
    """All inputs of a task, seen through a lens or a program: of each demonstration, then of each test."""

    agreement: float
    name: str
    grids: tuple[Grid, ...]


def canvas(puzzle: Puzzle, choose: Chooser | None = None, programs: Sequence[Program] = ()) -> Canvas | None:
    """Return the task's canvas, or None if nothing gives the size of every output.

    Lenses may predict different sizes of the test outputs. Then `choose` decides, or, without it, the lens that agrees
    best with the demonstrations. `programs` are further images, the best first; without a lens theirs are the sizes.
    """
    found = hypotheses(puzzle)
    count = len(puzzle.demonstrations)
    if found:
        sizes = choose(found) if choose and len(found) > 1 else next(iter(found))
    elif programs:
        sizes = _sizes(programs[0].grids[count:])
    else:
        return None
    images = [*_seen(puzzle, found.get(sizes, ())), *_made(puzzle, programs, sizes)]
    distinct: dict[bytes, Image] = {}  # without images that give the same grids as a better one
    for image in sorted(images, key=lambda one: -one.agreement):  # on ties lenses come first
        distinct.setdefault(b"|".join(grid.tobytes() for grid in image.grids), image)
    chosen = list(distinct.values())[:PLANES]
    planes = [_planes([image.grids[index] for image in chosen]) for index in range(count + len(puzzle.test_inputs))]
    targets = [target for _, target in puzzle.demonstrations]
    exact = all(np.array_equal(own[0], target) for own, target in zip(planes, targets, strict=False))
    return Canvas(
        tuple(image.name for image in chosen),
        tuple(zip(planes[:count], targets, strict=True)),
        tuple(planes[count:]),
        exact,
        varying_colours(puzzle),
    )


def _seen(puzzle: Puzzle, fits: Sequence[Fit]) -> Iterator[Image]:
    sources = (*(source for source, _ in puzzle.demonstrations), *puzzle.test_inputs)
    for fit in fits:
        grids = [fit.lens(source) for source in sources]
        yield Image(fit.agreement, fit.name, tuple(grid for grid in grids if grid is not None))


def _made(puzzle: Puzzle, programs: Sequence[Program], sizes: Sizes) -> Iterator[Image]:
    """Yield the programs' images whose tests have these sizes."""
    for program in programs:
        grids = tuple(np.asarray(grid, np.int8) for grid in program.grids)
        if _sizes(grids[len(puzzle.demonstrations) :]) == sizes:
            pairs = zip(grids, puzzle.demonstrations, strict=False)
            shares = [np.mean(grid == target) for grid, (_, target) in pairs]
            yield Image(float(np.mean(shares)), " > ".join(program.names), grids)


def _sizes(grids: Sequence[Grid]) -> Sizes:
    return tuple(grid.shape for grid in grids)


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


def _planes(grids: Sequence[Grid]) -> np.ndarray:
    planes = np.full((PLANES, *grids[0].shape), OUTSIDE, dtype=np.int8)
    planes[: len(grids)] = grids
    return planes
