"""What can be set of `lora_ttt`: a LoRA adapter per ARC task. Apart from its learner, so that its parts can read it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from trainables.core import Adapter, LearnerConfig, Optimizer
from trainables.learners.language import check_adam
from trainables.learners.lora import check_lora


@dataclass(frozen=True)
class LoraTttHyperparameters(LearnerConfig):
    learning_rate: float = 3e-3  # AdamW step size, as for lora; the source's 1e-4 hardly moves a small base
    weight_decay: float = 0.0  # decoupled, per step and unit of learning rate
    adam_beta1: float = 0.9  # share of the mean gradient that AdamW keeps at a step, in [0, 1)
    adam_beta2: float = 0.999  # the same of the mean squared gradient
    adam_epsilon: float = 1e-8  # beside the root of that mean: where gradients are smaller, steps are
    r: int = 16  # rank of the update; the source's 128 is for 8 billion weights
    lora_alpha: float = 32.0  # the update is scaled by lora_alpha / r
    lora_dropout: float = 0.0  # on the adapter's input; views already make every row new
    target_modules: tuple[str, ...] = ()  # module names; empty: the architecture's attention projections
    per_device_train_batch_size: int = 2  # rows in an AdamW step of one ARC task, as in the source
    steps_per_round: int = 16  # AdamW steps per ARC task in a round
    max_grad_norm: float = 1.0  # clipping of the global norm, per ARC task
    supervised_steps: int = 0  # AdamW steps of a shared adapter on the train split, from which each task starts
    turns: bool = True  # train and answer under the eight turns and mirrors
    permute_colours: bool = True  # and under permutations of all ten colours: their names mean nothing to a base
    permute_order: bool = True  # of demonstrations: drawn anew for every row and view; False: as the task has them
    votes: int = 8  # views under which each test input is answered; the first is the task as it is
    selection: Literal["vote", "logprob"] = "vote"  # of two answers: how many views gave it, or its probability in all
    tasks_at_once: int = 8  # ARC tasks on the base at a time; more take memory, and change no number
    max_length: int = 8192  # tokens of a row, with its answer; the base's own limit where that is lower

    def __post_init__(self) -> None:
        check_lora(self.r, self.lora_alpha, self.lora_dropout)
        check_adam(self.adam_beta1, self.adam_beta2, self.adam_epsilon)
        for name in ("per_device_train_batch_size", "steps_per_round", "votes", "tasks_at_once", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "weight_decay", "supervised_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a finite number >= 0")
        if self.max_grad_norm <= 0:
            raise ValueError(f"max_grad_norm is {self.max_grad_norm}; it must be above 0 (float('inf') does not clip)")
        if self.votes > 1 and not (self.turns or self.permute_colours or self.permute_order):
            remedy = "allow turns, permute_colours or permute_order, or set votes=1"
            raise ValueError(f"votes is {self.votes}, but all views of a task are the same; {remedy}")
        if self.selection not in ("vote", "logprob"):
            raise ValueError(f"selection is {self.selection!r}; choose 'vote' or 'logprob'")

    def adapter(self) -> Adapter:
        """Of each ARC task."""
        return Adapter(
            r=self.r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=tuple(self.target_modules),
        )

    def optimizer(self) -> Optimizer:
        """Of each ARC task."""
        return Optimizer(
            self.learning_rate,
            weight_decay=self.weight_decay,
            betas=(self.adam_beta1, self.adam_beta2),
            eps=self.adam_epsilon,
            max_grad_norm=self.max_grad_norm,
        )
