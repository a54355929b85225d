"""AdamW for stacked parameters: every row of the buffer is a trial with its own rate, decay, moments and steps.

The same operations in the same order as `torch.optim.AdamW` (Loshchilov and Hutter 2019), with a vector where that
takes a number. `torch.optim` has no vector of learning rates, and would decay rows that take no step.

Shapes: S slots, N parameters of a slot.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from trainables.optimizer import Optimizer
from trainables.packed.adapter_stack import Stack


class StackedAdamW:
    """Gradients, moments and step counts beside a stack's values."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        stack.beside |= {name: torch.zeros_like(stack.values) for name in ("gradient", "first", "second")}
        self.steps = [0] * len(stack.values)

    @property
    def gradient(self) -> Tensor:
        return self._stack.beside["gradient"]

    @property
    def first(self) -> Tensor:
        return self._stack.beside["first"]

    @property
    def second(self) -> Tensor:
        return self._stack.beside["second"]

    def open(self, slot: int) -> None:
        """Give a slot to a trial, with clean moments."""
        for buffer in (self.gradient, self.first, self.second):
            buffer[slot].zero_()
        self.steps[slot] = 0

    def accumulate(self, gradients: Mapping[str, Tensor]) -> None:
        """Add gradients (S, *shape) by parameter name; rows of slots that took no part are zero. Takes no memory."""
        for name, gradient in gradients.items():
            self._stack.view(name, self.gradient).add_(gradient)

    def norms(self) -> list[float]:
        """The global norm of each slot's gradient.

        Summed exactly, from a number per module: which modules there are, and in which order they came, is the
        neighbours' doing.
        """
        squares = self.gradient.square()
        parts = self._stack.parts.values()
        sums_S_M = torch.stack([squares[:, part.start : part.stop].sum(1) for part in parts], 1)
        return [math.sqrt(math.fsum(row)) for row in sums_S_M.tolist()]

    def step(self, settings: Mapping[int, Optimizer], norms_S: list[float], forgotten: Collection[int] = ()) -> None:
        """Clip and step these slots by their own settings, and clear their gradients and those of `forgotten` slots.

        For slots that take no step every operation is by 1 or 0, on a gradient of zeros: they keep every bit. All is
        computed beside what there is and then put in its place: a step that runs out of memory has changed nothing.
        """
        column = {name: [value] * len(self.gradient) for name, value in _STANDING_STILL.items()}
        for slot, own in settings.items():
            for name, value in _column(own, self.steps[slot], norms_S[slot]).items():
                column[name][slot] = value
        c = {name: self.gradient.new_tensor(values)[:, None] for name, values in column.items()}
        gradient = torch.mul(self.gradient, c["clip"]).masked_fill_(~self._mask(settings), 0.0)
        first = torch.lerp(self.first, gradient, c["new1"])
        second = torch.mul(self.second, c["beta2"]).add_(gradient.square_().mul_(c["new2"]))
        update = gradient  # its square is needed no more
        torch.sqrt(second, out=update).div_(c["root2"]).add_(c["eps"])
        torch.div(first, update, out=update)
        values = self._stack.values.clone()
        prompt = self._stack.parts["prompt"].stop if "prompt" in self._stack.parts else 0
        for part, rate in ((slice(0, prompt), "prompt_rate"), (slice(prompt, None), "rate")):
            values[:, part].mul_(1 - c[rate] * c["decay"]).sub_(update[:, part].mul_(c[rate] / c["correct1"]))
        left = update.copy_(self.gradient).masked_fill_(self._mask({*settings, *forgotten}), 0.0)
        self._stack.values.copy_(values)  # in place, as the leaves are views of it: the last operation of the device
        self._stack.beside |= {"gradient": left, "first": first, "second": second}
        for slot in settings:
            self.steps[slot] += 1

    def _mask(self, slots: Collection[int]) -> Tensor:
        """(S, 1): whether a slot is one of these."""
        return torch.tensor([slot in slots for slot in range(len(self.steps))], device=self.gradient.device)[:, None]


_STANDING_STILL = {
    "clip": 1.0, "new1": 0.0, "beta2": 1.0, "new2": 0.0, "eps": 1.0, "decay": 0.0, "rate": 0.0, "prompt_rate": 0.0,
    "correct1": 1.0, "root2": 1.0,
}  # fmt: skip


def _column(settings: Optimizer, step: int, norm: float) -> dict[str, float]:
    """One slot's numbers for its optimizer step `step` (from 0)."""
    factor, (beta1, beta2) = schedule(settings, step), (settings.adam_beta1, settings.adam_beta2)
    rate, prompt_rate = settings.learning_rate, settings.prompt_learning_rate
    return {
        "clip": min(1.0, settings.max_grad_norm / (norm + 1e-6)),  # as in torch's clip_grad_norm_
        "new1": 1 - beta1,  # here, as a beta near 1 would be rounded first in float32
        "beta2": beta2,
        "new2": 1 - beta2,
        "eps": settings.adam_epsilon,
        "decay": settings.weight_decay,
        "rate": factor * rate,
        "prompt_rate": factor * (rate if prompt_rate is None else prompt_rate),
        "correct1": 1 - beta1 ** (step + 1),
        "root2": math.sqrt(1 - beta2 ** (step + 1)),
    }


def schedule(settings: Optimizer, step: int) -> float:
    """The learning rate's factor in [0, 1] at an optimizer step (from 0): linear warm-up, then the schedule."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.lr_scheduler_type == "constant":
        return 1.0
    span = max(1, settings.total_steps - settings.warmup_steps)
    progress = min(1.0, (step - settings.warmup_steps) / span)
    return 1.0 - progress if settings.lr_scheduler_type == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
