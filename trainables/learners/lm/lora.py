"""LoRA (Hu et al. 2021, arXiv 2106.09685): low-rank updates beside frozen projections.

Trains A and B of every target module, r * (in + out) parameters each; the base stays frozen. By default alpha is 2 r.
The learning rate is higher than the usual 1e-4, which changes a model too little in 80 steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from trainables.core import Adapter, Task
from trainables.learners.lm.supervised import LanguageConfig, SupervisedLearner
from trainables.options import option


@dataclass(frozen=True)
class LoraConfig(LanguageConfig):
    name: ClassVar[str] = "lora"
    needs_base: ClassVar[bool] = True
    packs: ClassVar[bool] = True

    r: int = option(16, limit="hidden_size", reserve=True, shapes_weights=True)  # rank of the update
    lora_alpha: float = 32.0  # the update is scaled by lora_alpha / r
    lora_dropout: float = 0.0  # on the adapter's input; 80 steps rarely overfit
    target_modules: tuple[str, ...] = option(
        (), shapes_weights=True
    )  # module names; empty: the architecture's attention projections

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lora(self.r, self.lora_alpha, self.lora_dropout)

    def adapter(self) -> Adapter:
        return lora_adapter(self.r, self.lora_alpha, self.lora_dropout, self.target_modules)

    def build(self, base: Any, task: Task, seed: int) -> SupervisedLearner:
        return SupervisedLearner(self, self.adapter(), self.optimizer(), base, task, seed)


def lora_adapter(r: int, lora_alpha: float, lora_dropout: float, target_modules: Sequence[str]) -> Adapter:
    """Return the adapter of a learner that trains LoRA alone."""
    return Adapter(r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, target_modules=tuple(target_modules))


def check_lora(r: int, lora_alpha: float, lora_dropout: float) -> None:
    """Raise ValueError naming the value and its bound."""
    if r < 1:
        raise ValueError(f"r is {r}; a LoRA rank is at least 1")
    if lora_alpha <= 0:
        raise ValueError(f"lora_alpha is {lora_alpha}; it must be above 0, usually r to 4 r")
    if not 0 <= lora_dropout < 1:
        raise ValueError(f"lora_dropout is {lora_dropout}; a probability below 1 is needed")
