"""The settings that all learners of ARC share."""

from __future__ import annotations

from typing import ClassVar

from trainables.core import LearnerConfig, Task


class ArcLearnerConfig(LearnerConfig):
    """A learner that trains a model for every ARC task on that task's demonstrations."""

    needs_base: ClassVar[bool] = True
    only_task: ClassVar[str | None] = "arc"
    per_example: ClassVar[bool] = True

    def rounds_per_pass(self, task: Task) -> int:
        """Return 1: every round trains on all demonstrations of every ARC task."""
        return 1
