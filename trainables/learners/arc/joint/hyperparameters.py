"""Hyperparameters of `joint`: those of `percell`, and those of the trunk."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.learners.arc.percell.learner import PercellConfig
from trainables.options import option


@dataclass(frozen=True)
class JointHyperparameters(PercellConfig):
    learning_rate: float = 8e-3  # AdamW step size of the task's own training
    permute_colours: bool = True
    # AdamW steps on many tasks, before the first round; 0: each task is alone, as in percell
    trunk_steps: int = option(1000, shapes_weights=True)
    trunk_learning_rate: float = option(3e-3, shapes_weights=True)  # the highest of its one-cycle schedule
    # whether each task has a vector in the trunk; without, all are told the same
    task_vector: bool = option(True, shapes_weights=True)
    # train the trunk on the demonstrations of the tasks that are asked, too
    transductive: bool = option(False, shapes_weights=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trunk_steps < 0:
            raise ValueError(f"trunk_steps is {self.trunk_steps}; it must be at least 0")
        if not self.trunk_learning_rate > 0:
            raise ValueError(f"trunk_learning_rate is {self.trunk_learning_rate}; it must be above 0")
