"""Full fine-tuning: trains every weight of a copy of the base; nothing is frozen. The reference for adapters.

The copy is in float32, whatever the base's type, because small updates are lost in 16 bits. It takes 16 bytes a
parameter (weight, gradient, two moments), beside the base.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainables.core import Adapter, Task
from trainables.learners.lm.supervised import AloneConfig, SupervisedLearner
from trainables.options import option

if TYPE_CHECKING:
    from trainables.training.standalone import StandaloneLearner


@dataclass(frozen=True)
class FullConfig(AloneConfig):
    name: ClassVar[str] = "full"
    trains_base: ClassVar[bool] = True

    learning_rate: float = option(5e-4, limit="learning_rate")  # a tenth of what adapters take

    def check_base(self, base: Any) -> None:
        """Raise ValueError for a quantized base, whose weights take no gradient."""
        if base.quantization:
            raise ValueError(
                f"learner 'full' cannot train the quantized weights of {base.name!r}; drop its :nf4, or use lora"
            )

    def build(self, base: Any, task: Task, seed: int) -> StandaloneLearner:
        """Raise ValueError for a quantized base, whose weights take no gradient."""
        from trainables.training.standalone import StandaloneLearner

        self.check_base(base)
        model = copy.deepcopy(base.model).float().requires_grad_(True)
        for name in base.beside:  # a vision tower, say, which gets no gradient
            model.get_submodule(name).requires_grad_(False)
        return StandaloneLearner(
            base, model, SupervisedLearner(self, Adapter(), self.optimizer(), base, task, seed), seed
        )
