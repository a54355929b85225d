"""A trial in a host: its round and its evaluation as generators of requests and queries, and its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.checks.trial_warnings import modules_without_gradient
from trainables.core import Complete, Completion, LanguageLearner, Read, Row, Split
from trainables.models.peft_adapters import InitialAdapter
from trainables.packed.adapter_stack import AdapterStack
from trainables.packed.decoding import decode_prompts
from trainables.packed.requests import DecodeRequest, LogprobRequest, Request, StepRequest, TrainRequest
from trainables.packed.stacked_adamw import StackedAdamW
from trainables.training.dialogue import check_query
from trainables.training.groups import grouped
from trainables.training.round_metrics import RoundMetrics, shares
from trainables.training.sequence_packing import check_packed_rows

Requests = Generator[Request | Complete | Read, Any, Any]  # the host translates a learner's queries by `to_request`


def to_request(
    query: Complete | Read, stack: AdapterStack, slot: int, virtual: int = 0
) -> DecodeRequest | LogprobRequest:
    """Translate a learner's query into a request for a slot with `virtual` virtual tokens, or for the empty slot.

    Raise ValueError if the base cannot answer it.
    """
    if query.untouched:
        slot, virtual = stack.seats, 0
    check_query(query, virtual, stack.base)
    if isinstance(query, Read):
        return LogprobRequest(slot, query.rows, virtual, query.temperature, query.once)
    return DecodeRequest(decode_prompts(slot, query.prompts, virtual, query.max_new_tokens, query.draws))


class HostedTrial:
    """A learner, its slot in the stack, and its adapter as it was initialised (`made`).

    A saved adapter, which only answers, has no learner.
    """

    def __init__(
        self,
        slot: int,
        learner: LanguageLearner | None,
        seed: int,
        made: InitialAdapter,
        stack: AdapterStack,
        optimizer: StackedAdamW,
    ) -> None:
        self.slot, self.seed, self.made = slot, seed, made
        self._learner, self._stack, self._optimizer = learner, stack, optimizer

    @property
    def learner(self) -> LanguageLearner:
        """Raise ValueError for a saved adapter."""
        if self._learner is None:
            raise ValueError("a saved adapter answers and is not trained; open a learner to train or evaluate it")
        return self._learner

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return self._optimizer.steps[self.slot]

    def round(self) -> Requests:
        """Take `steps_per_round` optimizer steps, or fewer if a loss or norm is not finite; return a `RoundResult`."""
        yield from self.learner.prepare()
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

    def evaluate(self, split: Split) -> Requests:
        return (yield from self.learner.evaluate(split))

    def to_request(self, query: Complete | Read) -> Request:
        return to_request(query, self._stack, self.slot, self.made.num_virtual_tokens)

    def _update(self, watched: dict[str, list[float]] | None) -> Requests:
        """Take an optimizer step, unless a number is not finite; return mean loss, norm before clipping, and rows."""
        yield from self.learner.prepare_step()
        count, loss = self.learner.optimizer.gradient_accumulation_steps, 0.0
        batches = [self._checked(self.learner.next_rows()) for _ in range(count)]
        for micro, (own, share) in enumerate(zip(batches, shares(self.learner, batches), strict=True)):
            loss += share * (yield from self._gradient(own, micro, share))
        rows = [row for own in batches for row in own]
        if watched is not None:
            watched["correct_before_update"].append((yield from self._correct(rows)))
        norm = yield StepRequest(self.slot, math.isfinite(loss), self.learner.optimizer)
        if watched is not None:
            watched["correct_after_update"].append((yield from self._correct(rows)))
        return loss, norm, rows

    def _gradient(self, rows: Sequence[Row], micro: int, share: float) -> Requests:
        """Add the gradient of a micro-batch, and return its loss. No gradient is added if all rows may be left out."""
        read = [place for place, row in enumerate(rows) if not row.left_out]
        if not read:
            return float(self.learner.loss([torch.zeros(sum(row.labels)) for row in rows], rows))
        groups = grouped(rows, read, self._stack.base, self.made.num_virtual_tokens)
        return (yield TrainRequest(self.slot, self.learner, rows, self.seed, self.step, micro, share, groups))

    def _checked(self, rows: list[Row]) -> list[Row]:
        """Return the rows. Raise ValueError for one that cannot be trained on."""
        self._stack.base.check_tokens([row.tokens for row in rows], self.made.num_virtual_tokens)
        for row in rows:
            if True not in row.labels or row.labels[0]:
                raise ValueError(f"a row of {len(row.tokens)} tokens has no label after its first token; drop it")
        check_packed_rows(rows, self.made.num_virtual_tokens, self._stack.base)
        return rows

    def _correct(self, rows: Sequence[Row]) -> Requests:
        """Return the share of rows whose labels are exactly what the model now generates."""
        if any(row.starts for row in rows):
            raise ValueError("watch_updates compares one completion per row; leave it off, or pack no rows")
        starts = [row.labels.index(True) for row in rows]
        prompts = [list(row.tokens[:start]) for row, start in zip(rows, starts, strict=True)]
        longest = max(len(row.tokens) - start for row, start in zip(rows, starts, strict=True))
        completions: list[Completion] = yield DecodeRequest(
            decode_prompts(self.slot, prompts, self.made.num_virtual_tokens, longest)
        )
        targets = [list(row.tokens[start:-1]) for row, start in zip(rows, starts, strict=True)]
        return sum(c.tokens == target for c, target in zip(completions, targets, strict=True)) / len(rows)

    def values(self, buffer: Tensor | None = None) -> dict[str, Tensor]:
        """Return this trial's tensors in a buffer of the stack, without padding, copied to the CPU."""
        return {name: self.tensor(name, buffer).detach().cpu().clone() for name in self.made.values}

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
                self.tensor(name, buffer).copy_(value)
        optimizer.steps[self.slot] = state["step"]
        self.learner.load(state["learner"])

    def _without_gradient(self) -> list[str]:
        """Return the modules (or `prompt`) whose second moments are all zero."""
        moments = self._optimizer.second
        return modules_without_gradient({name: bool(self.tensor(name, moments).any()) for name in self.made.values})

    def tensor(self, name: str, buffer: Tensor | None = None) -> Tensor:
        """Return a view of a parameter, or of its part of an optimizer's buffer, without padding."""
        return self._stack.view(name, buffer)[self.slot][tuple(slice(n) for n in self.made.values[name].shape)]
