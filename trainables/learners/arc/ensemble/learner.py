"""ensemble: programs answer the ARC tasks that they explain, and percell's networks are trained for all others.

A program answers only if it agrees with every demonstration, and is then right on nine tasks in ten, so it takes both
attempts, and no network is trained for such a task. On the others networks read, beside the lenses, what the closest
programs make of the input: often a program is right but for a few cells. Before it is trained, the ensemble answers
with programs alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from trainables.core import Evaluation, Example, Split, Task
from trainables.learners.arc.canvas import Canvas
from trainables.learners.arc.percell.batch import NetworkBatch
from trainables.learners.arc.percell.learner import PercellConfig, PercellLearner
from trainables.learners.arc.program_answers import solved
from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.task import puzzle


@dataclass(frozen=True)
class EnsembleConfig(PercellConfig):
    name: ClassVar[str] = "ensemble"
    untrained: ClassVar[str] = "programs alone"
    program_planes: bool = True  # read the outputs of the closest programs beside the lenses

    def build(self, base: None, task: Task, seed: int) -> EnsembleLearner:
        return EnsembleLearner(self, task, seed)


class EnsembleLearner(PercellLearner):
    """Trains a network for each task of the search split that programs do not answer."""

    def check(self) -> None:
        """There is always an answer: programs need no canvas."""

    def canvases_of(self, examples: Sequence[Example]) -> dict[str, Canvas]:
        return super().canvases_of([example for example in examples if not solved(puzzle(example)).attempts])

    def attempts(
        self, examples: Sequence[Example], batches: Mapping[tuple[str, ...], NetworkBatch]
    ) -> dict[str, list[tuple[Grid, ...]]]:
        trained = super().attempts(examples, batches) if self.rounds else {}
        return trained | program_attempts(examples)

    def evaluate(self, split: Split = "search") -> Evaluation:
        """`by_programs`: the share of tasks that programs answer; `by_programs_right`: of these, the share solved."""
        found, examples = super().evaluate(split), self._task.split(split)
        answered = program_attempts(examples)
        right = [score for example, score in zip(examples, found.items, strict=True) if example.key in answered]
        shares = {"by_programs": len(right) / len(examples)}
        return found.with_metrics(shares | ({"by_programs_right": sum(right) / len(right)} if right else {}))


def program_attempts(examples: Sequence[Example]) -> dict[str, list[tuple[Grid, ...]]]:
    """Return the programs' attempts at each test input, by key; without the tasks that no program answers."""
    found = {example.key: solved(puzzle(example)).attempts for example in examples}
    return {key: list(zip(*attempts, strict=True)) for key, attempts in found.items() if attempts}
