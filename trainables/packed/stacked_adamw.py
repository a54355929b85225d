"""AdamW for stacked parameters: each row is a trial with its own learning rate, weight decay, moments and steps.

It does the operations of `torch.optim.AdamW` (Loshchilov and Hutter 2019) in their order, with a vector over trials
for each scalar. `torch.optim` takes no vector of learning rates, and would decay rows that take no step.

Shapes: S slots, N parameters of a slot.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from trainables.optimizer import Optimizer
from trainables.packed.adapter_stack import AdapterStack


class StackedAdamW:
    """Gradients, moments and step counts of an adapter stack."""

    def __init__(self, stack: AdapterStack) -> None:
        self._stack = stack
        stack.companions |= {name: torch.zeros_like(stack.values) for name in ("gradient", "first", "second")}
        self.steps = [0] * len(stack.values)

    @property
    def gradient(self) -> Tensor:
        return self._stack.companions["gradient"]

    @property
    def first(self) -> Tensor:
        return self._stack.companions["first"]

    @property
    def second(self) -> Tensor:
        return self._stack.companions["second"]

    def open(self, slot: int) -> None:
        """Clear a slot's gradient, moments and step count for a new trial."""
        for buffer in (self.gradient, self.first, self.second):
            buffer[slot].zero_()
        self.steps[slot] = 0

    def accumulate(self, gradients: Mapping[str, Tensor]) -> None:
        """Add gradients (S, *shape) by parameter name; rows of other slots are zero. Allocates no memory."""
        for name, gradient in gradients.items():
            self._stack.view(name, self.gradient).add_(gradient)

    def norms(self) -> list[float]:
        """Return the global norm of each slot's gradient.

        The modules and their order depend on the other trials, so the sums per module are added exactly.
        """
        squares = self.gradient.square()
        parts = self._stack.parts.values()
        sums_S_M = torch.stack([squares[:, part.start : part.stop].sum(1) for part in parts], 1)
        return [math.sqrt(math.fsum(row)) for row in sums_S_M.tolist()]

    def step(self, settings: Mapping[int, Optimizer], norms_S: list[float], cleared: Collection[int] = ()) -> None:
        """Clip and step these slots by their own settings, and clear their gradients and those of `cleared` slots.

        Slots that take no step keep every bit: their gradient counts as zero and their factors are 1 or 0. Results are
        computed in new tensors and then replace the old ones, so a step that runs out of memory has changed nothing.
        """
        column = {name: [value] * len(self.gradient) for name, value in _NO_STEP.items()}
        for slot, own in settings.items():
            for name, value in _column(own, self.steps[slot], norms_S[slot]).items():
                column[name][slot] = value
        c = {name: self.gradient.new_tensor(values)[:, None] for name, values in column.items()}
        gradient = torch.mul(self.gradient, c["clip"]).masked_fill_(~self._mask(settings), 0.0)
        first = torch.lerp(self.first, gradient, c["new1"])
        second = torch.mul(self.second, c["beta2"]).add_(gradient.square_().mul_(c["new2"]))
        update = gradient  # reuse its memory
        torch.sqrt(second, out=update).div_(c["root2"]).add_(c["eps"])
        torch.div(first, update, out=update)
        values = self._stack.values.clone()
        prompt = self._stack.parts["prompt"].stop if "prompt" in self._stack.parts else 0
        for part, rate in ((slice(0, prompt), "prompt_rate"), (slice(prompt, None), "rate")):
            values[:, part].mul_(1 - c[rate] * c["decay"]).sub_(update[:, part].mul_(c[rate] / c["correct1"]))
        left = update.copy_(self.gradient).masked_fill_(self._mask({*settings, *cleared}), 0.0)
        self._stack.values.copy_(values)  # in place, as the leaves are views of it; the last allocation is behind us
        self._stack.companions |= {"gradient": left, "first": first, "second": second}
        for slot in settings:
            self.steps[slot] += 1

    def _mask(self, slots: Collection[int]) -> Tensor:
        """Return (S, 1): whether each slot is one of these."""
        return torch.tensor([slot in slots for slot in range(len(self.steps))], device=self.gradient.device)[:, None]


_NO_STEP = {
    "clip": 1.0, "new1": 0.0, "beta2": 1.0, "new2": 0.0, "eps": 1.0, "decay": 0.0, "rate": 0.0, "prompt_rate": 0.0,
    "correct1": 1.0, "root2": 1.0,
}  # fmt: skip


def _column(settings: Optimizer, step: int, norm: float) -> dict[str, float]:
    """Return one slot's factors for its optimizer step `step`, counted from 0."""
    factor, (beta1, beta2) = settings.lr_factor(step), (settings.adam_beta1, settings.adam_beta2)
    rate, prompt_rate = settings.learning_rate, settings.prompt_learning_rate
    return {
        "clip": min(1.0, settings.max_grad_norm / (norm + 1e-6)),  # as in torch's clip_grad_norm_
        "new1": 1 - beta1,  # in Python floats, as float32 would round a beta near 1 first
        "beta2": beta2,
        "new2": 1 - beta2,
        "eps": settings.adam_epsilon,
        "decay": settings.weight_decay,
        "rate": factor * rate,
        "prompt_rate": factor * (rate if prompt_rate is None else prompt_rate),
        "correct1": 1 - beta1 ** (step + 1),
        "root2": math.sqrt(1 - beta2 ** (step + 1)),
    }
