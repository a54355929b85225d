"""Soft prompt (Lester et al. 2021, arXiv 2104.08691): trained embeddings before the prompt; the base stays frozen.

Trains num_virtual_tokens * hidden_size parameters. Embeddings have another scale than weights, so learning rates of
1e-2 to 1e-1 are usual, where LoRA takes 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from trainables.core import Adapter, Task
from trainables.learners.lm.supervised import LanguageConfig, SupervisedLearner
from trainables.options import option


@dataclass(frozen=True)
class SoftPromptConfig(LanguageConfig):
    name: ClassVar[str] = "soft_prompt"
    needs_base: ClassVar[bool] = True
    packs: ClassVar[bool] = True

    learning_rate: float = option(3e-2, limit="prompt_learning_rate")
    num_virtual_tokens: int = option(8, reserve=True, shapes_weights=True)
    prompt_init: Literal["random", "vocab"] = "vocab"  # N(0, 1), or embeddings of random tokens, whose scale fits

    def __post_init__(self) -> None:
        super().__post_init__()
        check_prompt(self.num_virtual_tokens)

    def adapter(self) -> Adapter:
        return Adapter(num_virtual_tokens=self.num_virtual_tokens, prompt_init=self.prompt_init)

    def build(self, base: Any, task: Task, seed: int) -> SupervisedLearner:
        return SupervisedLearner(self, self.adapter(), self.optimizer(), base, task, seed)


def check_prompt(num_virtual_tokens: int) -> None:
    """Raise ValueError naming the value and its bound."""
    if num_virtual_tokens < 1:
        raise ValueError(f"num_virtual_tokens is {num_virtual_tokens}; a soft prompt has at least 1")
