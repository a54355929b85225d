"""DoRA (Liu et al. 2024, arXiv 2402.09353): LoRA for the direction of a weight, and a trained length for each output.

PEFT's own modules (`use_dora=True`): a weight's norm is computed anew at every step, which rows of other trials cannot
share, so a trial has a model of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainables.core import Task
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.supervised import AloneConfig, SupervisedLearner

if TYPE_CHECKING:
    from trainables.training.standalone import StandaloneLearner


@dataclass(frozen=True)
class DoraConfig(LoraConfig, AloneConfig):
    name: ClassVar[str] = "dora"
    packs: ClassVar[bool] = False

    def build(self, base: Any, task: Task, seed: int) -> StandaloneLearner:  # type: ignore[override]
        from trainables.models.peft_adapters import lora_config
        from trainables.training.standalone import with_peft

        config = lora_config(base, self.adapter())
        config.use_dora = True
        learner = SupervisedLearner(self, self.adapter(), self.optimizer(), base, task, seed)
        return with_peft(base, config, learner, seed)
