"""ensemble: programs answer the ARC tasks that they explain, and percell's networks are trained for all others.

A program answers only if it agrees with every demonstration, and is then right on nine tasks in ten, so it takes both
attempts, and no network is trained for such a task. On the others networks read, beside the lenses, what the closest
programs make of the input: often a program is right but for a few cells. Before it is trained, the ensemble answers
with programs and lenses alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trainables.core import Example, Split, Task
from trainables.learners.arc.canvas import Canvas
from trainables.learners.arc.percell.batch import Votes
from trainables.learners.arc.percell.learner import PercellConfig, PercellLearner
from trainables.learners.arc.program_answers import search_all, solved
from trainables.tasks.arc.task import Puzzle, puzzle

FEWEST = 3  # demonstrations of a task whose programs are judged: one alone explains little


@dataclass(frozen=True)
class EnsembleConfig(PercellConfig):
    name: ClassVar[str] = "ensemble"
    learning_rate: float = 8e-3  # this and colours: what sweeps of percell on the search split preferred
    permute_colours: bool = True
    program_planes: bool = True  # read the outputs of the closest programs beside the lenses
    held_out: bool = False  # networks take the second attempt where programs miss half of the demonstrations left out

    def untrained(self) -> str:
        return "programs and lenses alone"

    def build(self, base: None, task: Task, seed: int) -> EnsembleLearner:
        return EnsembleLearner(self, task, seed)


class EnsembleLearner(PercellLearner):
    """Trains a network for each task of the search split that programs do not answer, or answer badly."""

    _config: EnsembleConfig

    def check(self) -> None:
        """There is always an answer: programs need no canvas."""

    def canvases_of(self, examples: Sequence[Example]) -> dict[str, Canvas]:
        puzzles = {example.key: puzzle(example) for example in examples}
        search_all([*puzzles.values()])
        if self._config.held_out:
            search_all([one for own in puzzles.values() if _is_judged(own) for one in held_out(own)])
        return super().canvases_of([example for example in examples if self._wants_network(puzzles[example.key])])

    def _wants_network(self, own: Puzzle) -> bool:
        return not solved(own).attempts or (self._config.held_out and misses_half(own))

    def votes(self, split: Split = "search") -> dict[str, list[Votes]]:
        trained, programs = super().votes(split), program_votes(self._task.split(split))
        shared = {
            key: [one.sharing(other) for one, other in zip(own, trained[key], strict=True)]
            for key, own in programs.items()
            if key in trained
        }
        return trained | programs | shared


def misses_half(own: Puzzle) -> bool:
    """Whether programs explain a task, but tell at most half of its demonstrations when these are left out."""
    if not _is_judged(own):
        return False
    told = [solved(one).attempts[:1] for one in held_out(own)]
    right = [
        bool(best) and np.array_equal(best[0][0], target)
        for best, (_, target) in zip(told, own.demonstrations, strict=True)
    ]
    return 2 * sum(right) <= len(right)


def held_out(own: Puzzle) -> list[Puzzle]:
    """Return the task without each of its demonstrations, whose input is the first test input instead."""
    pairs = own.demonstrations
    return [
        Puzzle(pairs[:place] + pairs[place + 1 :], (source, *own.test_inputs))
        for place, (source, _) in enumerate(pairs)
    ]


def _is_judged(own: Puzzle) -> bool:
    return len(own.demonstrations) >= FEWEST and bool(solved(own).attempts)


def program_votes(examples: Sequence[Example]) -> dict[str, list[Votes]]:
    """Return the programs' answers to each test input, by key; without the tasks that no program answers."""
    found = {example.key: solved(puzzle(example)).attempts for example in examples}
    return {
        key: [Votes(tries[0], tries[-1], 1.0, "programs") for tries in zip(*attempts, strict=True)]
        for key, attempts in found.items()
        if attempts
    }
