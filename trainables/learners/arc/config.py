"""The settings that all learners of ARC share."""

from __future__ import annotations

from typing import ClassVar

from trainables.core import LearnerConfig


class ArcLearnerConfig(LearnerConfig):
    """A learner that trains a model for every ARC task on that task's demonstrations."""

    needs_base: ClassVar[bool] = True
    only_task: ClassVar[str | None] = "arc"
    per_example: ClassVar[bool] = True
