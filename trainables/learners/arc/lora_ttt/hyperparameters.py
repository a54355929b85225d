"""Hyperparameters of `lora_ttt`, apart from `learner.py` because the modules that it imports read them, too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from trainables.core import Adapter
from trainables.learners.arc.config import ArcLearnerConfig
from trainables.learners.lm.lora import check_lora, lora_adapter
from trainables.optimizer import AdamWConfig, Optimizer
from trainables.options import option


@dataclass(frozen=True)
class LoraTttHyperparameters(AdamWConfig, ArcLearnerConfig):
    r: int = option(
        16, limit="hidden_size", shapes_weights=True
    )  # rank of the update; the source's 128 is for 8 billion weights
    lora_alpha: float = 32.0  # the update is scaled by lora_alpha / r
    lora_dropout: float = 0.0  # on the adapter's input; views already make every row new
    target_modules: tuple[str, ...] = option(
        (), shapes_weights=True
    )  # module names; empty: the architecture's attention projections
    per_device_train_batch_size: int = 2  # rows in an AdamW step of one ARC task, as in the source
    steps_per_round: int = 16  # AdamW steps per ARC task in a round
    supervised_steps: int = 0  # AdamW steps of a shared adapter on the train split, from which each task starts
    turns: bool = True  # train and answer under the eight turns and mirrors
    permute_colours: bool = True  # also under permutations of all ten colours: the digits mean nothing to a base
    permute_order: bool = True  # of demonstrations: drawn anew for every row and view; False: as the task has them
    votes: int = 8  # views under which each test input is answered; the first is the task as it is
    selection: Literal["vote", "logprob"] = "vote"  # rank answers by how many views gave them, or by log-probability
    tasks_at_once: int = 8  # ARC tasks on the base at a time; more take memory and change no result
    max_length: int = 8192  # tokens of a row, with its answer; the base's own limit where that is lower

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lora(self.r, self.lora_alpha, self.lora_dropout)
        for name in ("per_device_train_batch_size", "steps_per_round", "votes", "tasks_at_once", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.supervised_steps < math.inf:
            raise ValueError(f"supervised_steps is {self.supervised_steps}; it must be a finite number >= 0")
        if self.votes > 1 and not (self.turns or self.permute_colours or self.permute_order):
            remedy = "allow turns, permute_colours or permute_order, or set votes=1"
            raise ValueError(f"votes is {self.votes}, but all views of a task are the same; {remedy}")
        if self.selection not in ("vote", "logprob"):
            raise ValueError(f"selection is {self.selection!r}; choose 'vote' or 'logprob'")

    def adapter(self) -> Adapter:
        """Return the adapter of each ARC task."""
        return lora_adapter(self.r, self.lora_alpha, self.lora_dropout, self.target_modules)

    def optimizer(self) -> Optimizer:
        """Return the optimizer's settings, equal for all ARC tasks."""
        return Optimizer.of(self)
