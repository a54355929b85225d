"""One trial in a host's seat: what it does next, as a generator of requests, and what must be kept of it."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

from torch import Tensor

from trainables.checks.trial_warnings import unreached
from trainables.core import Asking, Complete, Completion, LanguageLearner, Read, Row, Split
from trainables.models.peft_adapters import Fresh
from trainables.packed.adapter_stack import Stack
from trainables.packed.decoding import prompts_of
from trainables.packed.requests import Decode, Measure, Request, Step, Train
from trainables.packed.stacked_adamw import StackedAdamW
from trainables.training.dialogue import check_ask
from trainables.training.round_metrics import RoundMetrics, shares
from trainables.training.sequence_packing import check

Requesting = Generator[Request, Any, Any]


def requested(ask: Complete | Read, slot: int, virtual: int) -> Decode | Measure:
    """What a learner asks for, of a slot with so many virtual tokens."""
    if isinstance(ask, Read):
        return Measure(slot, ask.rows, virtual)
    return Decode(prompts_of(slot, ask.prompts, virtual, ask.max_new_tokens))


def dialogue(asking: Asking, stack: Stack, slot: int, virtual: int) -> Requesting:
    """Ask the host for whatever a learner asks for, of a slot with so many virtual tokens; what the learner returns."""
    reply = None
    while True:
        try:
            ask = asking.send(reply)
        except StopIteration as end:
            return end.value
        own = (stack.seats, 0) if ask.untouched else (slot, virtual)
        check_ask(ask, own[1], stack.base)
        reply = yield requested(ask, *own)


class Sitting:
    """A learner, its slot, and how its adapter began."""

    def __init__(
        self,
        slot: int,
        learner: LanguageLearner,
        seed: int,
        made: Fresh,
        stack: Stack,
        optimizer: StackedAdamW,
    ) -> None:
        self.slot, self.learner, self.seed, self.made = slot, learner, seed, made
        self._stack, self._optimizer = stack, optimizer

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return self._optimizer.steps[self.slot]

    def round(self) -> Requesting:
        """`steps_per_round` steps; returns the result of `Host.round`. Ends early where a number is not finite."""
        yield from self._answered(self.learner.prepare())
        collected, first = RoundMetrics(), self.step == 0
        watched: dict[str, list[float]] = {"correct_before_update": [], "correct_after_update": []}
        for _ in range(self.learner.steps_per_round):
            loss, norm, rows = yield from self._update(watched if self.learner.watch_updates else None)
            if not collected.add(loss, norm, sum(len(row.tokens) for row in rows)):
                break
        metrics: dict[str, Any] = {name: sum(values) / len(values) for name, values in watched.items() if values}
        if first and (modules := self._without_gradient()):
            metrics["without_gradient"] = modules
        result = collected.result(self.step, sum(value.numel() for value in self.made.values.values()))
        return result.with_metrics(metrics)

    def evaluate(self, split: Split) -> Requesting:
        return (yield from self._answered(self.learner.evaluate(split)))

    def _answered(self, asking: Asking) -> Requesting:
        return (yield from dialogue(asking, self._stack, self.slot, self._virtual))

    @property
    def _virtual(self) -> int:
        return self.learner.adapter.num_virtual_tokens

    def _update(self, watched: dict[str, list[float]] | None) -> Requesting:
        """One optimizer step -> (mean loss, gradient norm before clipping, rows); not taken if it is not finite."""
        count, loss = self.learner.optimizer.gradient_accumulation_steps, 0.0
        batches = [self._checked(self.learner.next_rows()) for _ in range(count)]
        for micro, (own, share) in enumerate(zip(batches, shares(self.learner, batches), strict=True)):
            loss += share * (yield Train(self.slot, self.learner, own, self.seed, self.step, micro, share))
        rows = [row for own in batches for row in own]
        if watched is not None:
            watched["correct_before_update"].append((yield from self._correct(rows)))
        norm = yield Step(self.slot, math.isfinite(loss), self.learner.optimizer)
        if watched is not None:
            watched["correct_after_update"].append((yield from self._correct(rows)))
        return loss, norm, rows

    def _checked(self, rows: list[Row]) -> list[Row]:
        """Rows that can be trained on. Raises ValueError."""
        self._stack.base.readable([row.tokens for row in rows], self._virtual)
        for row in rows:
            if True not in row.labels or row.labels[0]:
                raise ValueError(f"a row of {len(row.tokens)} tokens has no label after its first token; drop it")
        check(rows, self._virtual, self._stack.base)
        return rows

    def _correct(self, rows: Sequence[Row]) -> Requesting:
        """The share of rows whose labels are exactly what the model now generates."""
        if any(row.starts for row in rows):
            raise ValueError("watch_updates compares one completion per row; leave it off, or pack no rows")
        starts = [row.labels.index(True) for row in rows]
        prompts = [list(row.tokens[:start]) for row, start in zip(rows, starts, strict=True)]
        longest = max(len(row.tokens) - start for row, start in zip(rows, starts, strict=True))
        completions: list[Completion] = yield requested(Complete(prompts, longest), self.slot, self._virtual)
        targets = [list(row.tokens[start:-1]) for row, start in zip(rows, starts, strict=True)]
        return sum(c.tokens == target for c, target in zip(completions, targets, strict=True)) / len(rows)

    def values(self, buffer: Tensor | None = None) -> dict[str, Tensor]:
        """This seat's tensors in a buffer of the stack, without pads, copied to the CPU."""
        return {name: self._own(name, buffer).detach().cpu().clone() for name in self.made.values}

    def state(self) -> dict[str, Any]:
        optimizer = self._optimizer
        return {
            "parameters": self.values(),
            "first_moments": self.values(optimizer.first),
            "second_moments": self.values(optimizer.second),
            "step": self.step,
            "learner": self.learner.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        optimizer = self._optimizer
        for part, buffer in (
            ("parameters", self._stack.values),
            ("first_moments", optimizer.first),
            ("second_moments", optimizer.second),
        ):
            for name, value in state[part].items():
                self._own(name, buffer).copy_(value)
        optimizer.steps[self.slot] = state["step"]
        self.learner.load(state["learner"])

    def _without_gradient(self) -> list[str]:
        """Modules (or `prompt`) whose second moments are all zero."""
        moments = self._optimizer.second
        return unreached({name: bool(self._own(name, moments).any()) for name in self.made.values})

    def _own(self, name: str, buffer: Tensor | None) -> Tensor:
        return self._stack.view(name, buffer)[self.slot][tuple(slice(n) for n in self.made.values[name].shape)]
