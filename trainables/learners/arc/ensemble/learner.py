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

from trainables.core import Example, Split, Task
from trainables.learners.arc.canvas import Canvas
from trainables.learners.arc.percell.batch import Votes
from trainables.learners.arc.percell.learner import PercellConfig, PercellLearner
from trainables.learners.arc.program_answers import search_all, solved
from trainables.tasks.arc.task import puzzle


@dataclass(frozen=True)
class EnsembleConfig(PercellConfig):
    name: ClassVar[str] = "ensemble"
    learning_rate: float = 8e-3  # this and colours: what sweeps of percell on the search split preferred
    permute_colours: bool = True
    program_planes: bool = True  # read the outputs of the closest programs beside the lenses

    def untrained(self) -> str:
        return "programs and lenses alone"

    def build(self, base: None, task: Task, seed: int) -> EnsembleLearner:
        return EnsembleLearner(self, task, seed)


class EnsembleLearner(PercellLearner):
    """Trains a network for each task of the search split that programs do not answer."""

    def check(self) -> None:
        """There is always an answer: programs need no canvas."""

    def canvases_of(self, examples: Sequence[Example]) -> dict[str, Canvas]:
        search_all([puzzle(example) for example in examples])
        return super().canvases_of([example for example in examples if not solved(puzzle(example)).attempts])

    def votes(self, split: Split = "search") -> dict[str, list[Votes]]:
        return super().votes(split) | program_votes(self._task.split(split))


def program_votes(examples: Sequence[Example]) -> dict[str, list[Votes]]:
    """Return the programs' answers to each test input, by key; without the tasks that no program answers."""
    found = {example.key: solved(puzzle(example)).attempts for example in examples}
    return {
        key: [Votes(tries[0], tries[-1], 1.0, "programs") for tries in zip(*attempts, strict=True)]
        for key, attempts in found.items()
        if attempts
    }
