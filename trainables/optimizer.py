"""The settings of AdamW, of its schedule and of other parts of an optimizer step.

Learners inherit the fields, so that each is one of their axes and flags; training reads the fields from
an `Optimizer`. A new setting is a line here, and its use. Names as in `transformers.TrainingArguments`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from trainables.options import option


@dataclass(frozen=True)
class StepConfig:
    """The size of an AdamW step (Loshchilov and Hutter 2019, arXiv 1711.05101), clipped by the global norm."""

    learning_rate: float = option(3e-3, limit="learning_rate")  # the step size; a sweep's first axis
    weight_decay: float = 0.0  # decoupled, per step and unit of learning rate
    max_grad_norm: float = 1.0  # clipping of the global norm

    def __post_init__(self) -> None:
        """Raise ValueError naming the value and its bound."""
        for name in ("learning_rate", "weight_decay"):
            if not (0 <= getattr(self, name) < math.inf):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a finite number >= 0")
        if self.max_grad_norm <= 0:
            raise ValueError(f"max_grad_norm is {self.max_grad_norm}; it must be above 0 (float('inf') does not clip)")


@dataclass(frozen=True)
class AdamWConfig(StepConfig):
    """AdamW with its moments' settings."""

    adam_beta1: float = 0.9  # share of the mean gradient that AdamW keeps at a step, in [0, 1)
    adam_beta2: float = 0.999  # share of the mean squared gradient; 0.99 and less forget early steps in short runs
    adam_epsilon: float = 1e-8  # beside the root of that mean: where gradients are smaller, steps are

    def __post_init__(self) -> None:
        """Raise ValueError naming the value and its bound."""
        super().__post_init__()
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a share that is kept must be in [0, 1)")
        if not 1e-30 <= self.adam_epsilon < math.inf:
            raise ValueError(
                f"adam_epsilon is {self.adam_epsilon}; it must be finite and at least 1e-30: much less is 0 in float32"
            )


@dataclass(frozen=True)
class OptimizerConfig(AdamWConfig):
    """AdamW with accumulation, a learning rate schedule and noise on embeddings."""

    gradient_accumulation_steps: int = 1  # micro-batches in an optimizer step
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"  # constant: every round means the same
    warmup_steps: int = 0  # linear warm-up, optimizer steps
    neftune_noise_alpha: float = 0.0  # noise on training rows' embeddings, at most alpha / sqrt(tokens * channels)

    def __post_init__(self) -> None:
        """Raises ValueError naming the value and its bound."""
        super().__post_init__()
        if self.gradient_accumulation_steps < 1:
            raise ValueError(
                f"gradient_accumulation_steps is {self.gradient_accumulation_steps}; it must be at least 1"
            )
        for name in ("warmup_steps", "neftune_noise_alpha"):
            if not (0 <= getattr(self, name) < math.inf):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a finite number >= 0")


@dataclass(frozen=True)
class Optimizer(OptimizerConfig):
    """An `OptimizerConfig` for one training run."""

    prompt_learning_rate: float | None = None  # for the soft prompt; None: learning_rate
    total_steps: int = 0  # optimizer steps after which linear and cosine reach zero

    def lr_factor(self, step: int) -> float:
        """Return the learning rate's factor in [0, 1] at an optimizer step, counted from 0: warm-up, then schedule."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.lr_scheduler_type == "constant":
            return 1.0
        span = max(1, self.total_steps - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / span)
        return 1.0 - progress if self.lr_scheduler_type == "linear" else 0.5 * (1 + math.cos(math.pi * progress))

    @classmethod
    def of(cls, config: AdamWConfig, total_steps: int = 0, prompt_learning_rate: float | None = None) -> Optimizer:
        """Take the settings of the optimizer out of a learner's configuration."""
        kind = OptimizerConfig if isinstance(config, OptimizerConfig) else AdamWConfig
        shared = {field.name: getattr(config, field.name) for field in fields(kind)}
        return cls(**shared, total_steps=total_steps, prompt_learning_rate=prompt_learning_rate)
