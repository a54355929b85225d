"""Answers to a task from programs: prior knowledge alone, nothing is trained.

The background is renamed to 0 first, as programs expect it. Candidate answers come from exact programs, from rules of
one and two planes, and from stacks; all of them agree with every demonstration. Answers that several candidates give
count more, cheaper candidates count more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from trainables.tasks.arc.grids import COLOURS, Grid, submission
from trainables.tasks.arc.programs.rules import Candidate, Cells, pairs, single
from trainables.tasks.arc.programs.search import Limits, Program, Search
from trainables.tasks.arc.programs.stacking import stacks
from trainables.tasks.arc.task import Puzzle
from trainables.tasks.arc.views import View

ATTEMPTS = 2
NO_ANSWER = np.zeros((0, 0), dtype=np.int8)


@dataclass(frozen=True)
class Solved:
    """`attempts`: for each of the best answers its grids, one for each test; `names`: what gave them.

    `planes`: programs whose grids have the outputs' sizes, those that agree with most cells first, for learners that
    read them beside the input. `grids_asked`: the work that the search did.
    """

    attempts: tuple[tuple[Grid, ...], ...] = ()
    names: tuple[str, ...] = ()
    planes: tuple[Program, ...] = field(default=(), repr=False)
    grids_asked: int = 0


def solve(puzzle: Puzzle, limits: Limits | None = None, planes: int = 0) -> Solved:
    """Search programs for a task and return at most two answers, and so many planes."""
    view = background_first(puzzle)
    own = view.of(puzzle)
    search = Search(own, limits or Limits())
    programs = search.run()
    targets = [target for _, target in own.demonstrations]
    ranked = best(candidates(programs, search.sources, targets))[:ATTEMPTS]
    return Solved(
        attempts=tuple(tuple(view.undo(grid) for grid in one.answers) for one in ranked),
        names=tuple(one.name for one in ranked),
        planes=tuple(_in_colours(view, program) for program in _closest(programs, targets)[:planes]),
        grids_asked=search.grids_asked,
    )


def submitted(puzzle: Puzzle, limits: Limits | None = None) -> str:
    """Return a task's submission in the official format; without an answer, that of no grids."""
    attempts = solve(puzzle, limits).attempts or ((NO_ANSWER,) * len(puzzle.test_inputs),)
    return submission([*zip(*attempts, strict=True)])


def background_first(puzzle: Puzzle) -> View:
    """Return the view that exchanges 0 and the background: a colour that most cells of every input have."""
    most = {int(np.bincount(source.ravel()).argmax()) for source, _ in puzzle.demonstrations}
    colours = list(range(COLOURS))
    if len(most) == 1 and all((source == min(most)).mean() > 0.5 for source, _ in puzzle.demonstrations):
        colours[0], colours[min(most)] = min(most), 0
    return View(0, tuple(colours))


def candidates(programs: Sequence[Program], sources: tuple[Grid, ...], targets: Sequence[Grid]) -> Iterator[Candidate]:
    """Yield all answers that agree with the demonstrations; programs have grids of the outputs' sizes."""
    if not programs:
        return
    cells = Cells(programs, targets)
    yield from single(cells, sources, targets)
    yield from stacks(cells)
    yield from pairs(cells)


def best(found: Iterator[Candidate]) -> list[Candidate]:
    """Return one candidate of each answer, those with the highest sum of 2^-cost first."""
    groups: dict[bytes, list[Candidate]] = {}
    for one in found:
        mark = b"|".join(bytes(grid.shape) + grid.tobytes() for grid in one.answers)
        groups.setdefault(mark, []).append(one)
    ranked = sorted(groups.values(), key=lambda group: -sum(2.0**-one.cost for one in group))
    return [min(group, key=lambda one: one.cost) for group in ranked]


def _closest(programs: Sequence[Program], targets: Sequence[Grid]) -> list[Program]:
    """Sort programs by the share of output cells that they get right."""
    wanted = [target.ravel() for target in targets]

    def share(program: Program) -> float:
        return float(np.mean([np.mean(g.ravel() == w) for g, w in zip(program.grids, wanted, strict=False)]))

    return sorted(programs, key=share, reverse=True)


def _in_colours(view: View, program: Program) -> Program:
    return program._replace(grids=tuple(view.undo(grid) for grid in program.grids))
