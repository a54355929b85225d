"""DoRA (Liu et al. 2024, arXiv 2402.09353): LoRA for the direction of a weight, and a trained magnitude per output.

The base stays frozen. PEFT's modules are used (`use_dora=True`). They compute the norm of the adapted weight at every
step, which trials on one base cannot share, so each trial has its own model.
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
