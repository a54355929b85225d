"""Hybrid: LoRA and a soft prompt, trained together on a frozen base, each with its own learning rate.

Trains the parameters of `lora` and of `soft_prompt` with one optimizer and one clipping norm. Papers: Hu et al. 2021
(arXiv 2106.09685), Lester et al. 2021 (arXiv 2104.08691).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from trainables.core import Adapter, Task
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import check_prompt
from trainables.learners.lm.supervised import SupervisedLearner
from trainables.options import option


@dataclass(frozen=True)
class HybridConfig(LoraConfig):
    name: ClassVar[str] = "hybrid"

    prompt_learning_rate: float = option(
        1e-2, limit="prompt_learning_rate"
    )  # of the soft prompt; lower than alone, because LoRA changes the model, too
    num_virtual_tokens: int = option(8, reserve=True, shapes_weights=True)
    prompt_init: Literal["random", "vocab"] = "vocab"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_prompt(self.num_virtual_tokens)
        if not self.prompt_learning_rate >= 0:
            raise ValueError(f"prompt_learning_rate is {self.prompt_learning_rate}; it must be at least 0")

    def adapter(self) -> Adapter:
        return replace(super().adapter(), num_virtual_tokens=self.num_virtual_tokens, prompt_init=self.prompt_init)

    def build(self, base: Any, task: Task, seed: int) -> SupervisedLearner:
        return SupervisedLearner(self, self.adapter(), self.optimizer(self.prompt_learning_rate), base, task, seed)
