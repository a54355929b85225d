"""Search: compositions of primitives, the cheapest first, applied to all inputs of a task together.

A program's cost is the sum of its primitives' costs. A program that gives the same grids as an earlier one, on
demonstrations and tests, is dropped. Longer programs are applied to the first input, and to the others only if they may
explain the first output or are continued. Work is counted in grids that a primitive is asked for, so that results do
not depend on the machine; CPU seconds are only a second limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from trainables.tasks.arc.grids import MAX_SIDE, Grid
from trainables.tasks.arc.programs import (
    colours,
    crops,
    geometry,
    lines,
    logic,
    picks,
    places,
    symmetry,
    tilings,
    within,
)
from trainables.tasks.arc.programs.primitive import Primitive
from trainables.tasks.arc.programs.sizes import FITTINGS, Shape, sizes
from trainables.tasks.arc.task import Puzzle

VALUES = 10  # of a cell
IDEAS = (geometry, crops, tilings, colours, lines, symmetry, logic, within, picks, places)
PRIMITIVES: list[Primitive] = [one for idea in IDEAS for one in idea.PRIMITIVES]
CHEAP, COSTLY = ([one for one in PRIMITIVES if one.cost == cost and not one.reads_input] for cost in (1, 2))
AFTER = [one for one in PRIMITIVES if one.cost == 1 and not one.starts]  # those that are put after others


@dataclass(frozen=True)
class Limits:
    """How far a search goes."""

    grids: int = 16_000  # that primitives are asked for
    seconds: float = 5.0  # of CPU time; nearly all tasks reach the number of grids first


class Program(NamedTuple):
    """The names of its primitives, and its grids: of each demonstration, then of each test."""

    names: tuple[str, ...]
    cost: int
    grids: tuple[Grid, ...]


@dataclass
class Search:
    """`planes`: programs whose grids have the outputs' sizes, the cheapest first; the input may be one."""

    puzzle: Puzzle
    limits: Limits
    planes: list[Program] = field(default_factory=list)
    grids_asked: int = 0

    def __post_init__(self) -> None:
        self.sources = (*(source for source, _ in self.puzzle.demonstrations), *self.puzzle.test_inputs)
        self.targets = [target for _, target in self.puzzle.demonstrations]
        self.seen: set[bytes] = set()
        self.start = time.process_time()

    def run(self) -> list[Program]:
        """Search until the limits: single primitives, then two, then three. Return the planes."""
        whole = Program((), 0, self.sources)
        self._add(whole)
        first = [program for one in CHEAP if (program := self.extend(whole, one)) and one.expands]
        self.fit_sizes([whole, *first])
        second = [program for one in COSTLY if (program := self.extend(whole, one)) and one.expands]
        later = self.compose(first)
        self.compose(second)
        self.compose(program for before, one in later if (program := self.extend(before, one)))
        return self.planes

    def spent(self) -> bool:
        return self.grids_asked >= self.limits.grids or time.process_time() - self.start >= self.limits.seconds

    def compose(self, programs: Iterable[Program]) -> list[tuple[Program, Primitive]]:
        """Put every cheap primitive after every program. Add what may explain outputs, and return the rest: what gives
        a new first grid."""
        rest: list[tuple[Program, Primitive]] = []
        for program in programs:
            if self.spent():
                break
            for primitive in AFTER:
                if self.grids_asked >= self.limits.grids:
                    break
                grid = self.asked(program, primitive, 0)
                if grid is None:
                    continue
                if may_explain(grid, self.sources[0], self.targets[0]):
                    self.extend(program, primitive)
                elif primitive.expands and (mark := _mark(grid)) not in self.seen:
                    self.seen.add(mark)
                    rest.append((program, primitive))
        return rest

    def asked(self, program: Program, primitive: Primitive, index: int) -> Grid | None:
        """Run a primitive on one of a program's grids."""
        self.grids_asked += 1
        grid = program.grids[index]
        made = primitive.run(grid, self.sources[index]) if primitive.reads_input else primitive.run(grid)
        if made is None or not 0 < min(made.shape) <= max(made.shape) <= MAX_SIDE:
            return None
        return np.ascontiguousarray(made)

    def extend(self, program: Program, primitive: Primitive) -> Program | None:
        """Return the longer program, if it gives grids that no earlier one gives. None if the limits are reached."""
        if self.spent():
            return None
        made = []
        for index in range(len(program.grids)):
            grid = self.asked(program, primitive, index)
            if grid is None:
                return None
            made.append(grid)
        return self._add(Program((*program.names, primitive.name), program.cost + primitive.cost, tuple(made)))

    def _add(self, program: Program) -> Program | None:
        mark = b"|".join(_mark(grid) for grid in program.grids)
        if mark in self.seen:
            return None
        self.seen.add(mark)
        if all(grid.shape == target.shape for grid, target in zip(program.grids, self.targets, strict=False)):
            self.planes.append(program)
        return program

    def fit_sizes(self, programs: Sequence[Program]) -> None:
        """Bring grids of other sizes to the outputs' sizes, where these can be guessed."""
        shown = [target.shape for target in self.targets]
        images = [[grid.shape for grid in program.grids] for program in programs]
        for guess in sizes(shown, [source.shape for source in self.sources], images):
            for program in programs:
                if not self.spent() and any(
                    grid.shape != shape for grid, shape in zip(program.grids, guess, strict=True)
                ):
                    for made in self._fitted(program, guess):
                        self._add(made)

    def _fitted(self, program: Program, guess: Sequence[Shape]) -> Iterator[Program]:
        for name, fit in FITTINGS.items():
            self.grids_asked += len(guess)
            made = [fit(grid, shape) for grid, shape in zip(program.grids, guess, strict=True)]
            if all(grid is not None for grid in made):
                yield Program((*program.names, name), program.cost + 1, tuple(made))  # type: ignore[arg-type]


def may_explain(grid: Grid, source: Grid, target: Grid) -> bool:
    """Whether the output is a function of the grid's cells, and of the input's if it is as large; or the grid is right
    wherever it draws something."""
    if grid.shape != target.shape:
        return False
    if ((grid == 0) | (grid == target)).all():
        return True
    cells = grid * VALUES + source if source.shape == grid.shape else grid
    return is_function(cells.ravel(), target.ravel(), VALUES**2)


def is_function(cells: np.ndarray, values: np.ndarray, most: int) -> bool:
    """Whether cells (numbers below `most`) of one kind always have one value."""
    pairs = np.zeros(most * VALUES, dtype=bool)
    pairs[cells.astype(np.int64) * VALUES + values] = True
    return not (pairs.reshape(most, VALUES).sum(1) > 1).any()


def _mark(grid: Grid) -> bytes:
    return bytes(grid.shape) + grid.tobytes()
