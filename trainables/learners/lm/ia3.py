"""IA3 (Liu et al. 2022, arXiv 2205.05638): attention and MLP activations are scaled by trained vectors.

The fewest parameters of all. PEFT chooses what is scaled in each architecture; its modules need a model of their own.
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

    learning_rate: float = 3e-2  # vectors that start at 1 bear, and need, large steps

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_decay:
            raise ValueError(
                f"weight_decay is {self.weight_decay}; it draws IA3's vectors to 0, where what they scale is silent:"
                " leave it at 0 (--set lora.weight_decay sets another learner's alone)"
            )

    def build(self, base: Any, task: Task, seed: int) -> StandaloneLearner:
        """Raises ValueError for an architecture whose targets PEFT does not know."""
        import peft
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as known

        from trainables.training.standalone import with_peft

        kind = base.model.config.model_type
        if kind not in known:
            raise ValueError(f"ia3: PEFT does not know what to scale in {kind!r}, only in {', '.join(known)}; use lora")
        learner = SupervisedLearner(self, Adapter(), self.optimizer(), base, task, seed)
        return with_peft(base, peft.IA3Config(task_type=peft.TaskType.CAUSAL_LM), learner, seed)
