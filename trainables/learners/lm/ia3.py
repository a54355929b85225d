"""IA3 (Liu et al. 2022, arXiv 2205.05638): trained vectors scale attention and MLP activations; the base stays frozen.

It has the fewest trainable parameters. PEFT chooses the scaled activations of each architecture; its modules need a
model for each trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainables.core import Adapter, Task
from trainables.learners.lm.supervised import AloneConfig, SupervisedLearner

if TYPE_CHECKING:
    from trainables.training.standalone import StandaloneLearner


@dataclass(frozen=True)
class Ia3Config(AloneConfig):
    name: ClassVar[str] = "ia3"

    learning_rate: float = 3e-2  # vectors that start at 1 need large steps

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_decay:
            raise ValueError(
                f"weight_decay is {self.weight_decay}; it pulls IA3's vectors to 0, which removes what they scale:"
                " leave it at 0 (--set lora.weight_decay sets it for another learner only)"
            )

    def check_base(self, base: Any) -> None:
        """Raise ValueError for an architecture whose targets PEFT does not know."""
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as known

        kind = base.model.config.model_type
        if kind not in known:
            raise ValueError(f"ia3: PEFT does not know what to scale in {kind!r}, only in {', '.join(known)}; use lora")

    def build(self, base: Any, task: Task, seed: int) -> StandaloneLearner:
        """Raise ValueError for an architecture whose targets PEFT does not know."""
        import peft

        from trainables.training.standalone import with_peft

        self.check_base(base)
        learner = SupervisedLearner(self, Adapter(), self.optimizer(), base, task, seed)
        return with_peft(base, peft.IA3Config(task_type=peft.TaskType.CAUSAL_LM), learner, seed)
