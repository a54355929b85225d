"""How requests of many seats are answered together on one base.

A seat is a generator: it yields a request, waits, and goes on with the answer. `Bench` answers requests of one
kind for all seats at once: a batch of rows forward and backward, an optimizer step, or decoding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.core import Completion, Row
from trainables.packed.adapter_stack import Stack
from trainables.packed.batching import Batch, Lane, batch, size_of, training_lanes
from trainables.packed.decoding import Prompt, generate
from trainables.packed.determinism import blocks_stand_alone, rows_stand_alone
from trainables.packed.requests import Decode, Measure, Step, Train
from trainables.packed.stacked_adamw import StackedAdamW
from trainables.packed.time_meter import Meter, parts
from trainables.training.oom import HALVINGS, gradients, ran_out
from trainables.training.sequence_packing import check


class Bench:
    """Answers requests on a stack of adapters, in batches of `lanes` rows, decoding `decode_lanes` at a time.

    None: 128 on a CPU, whose caches hold no more, and 1024 on a GPU, where a token costs as many launches for one.
    """

    def __init__(self, stack: Stack, optimizer: StackedAdamW, lanes: int, decode_lanes: int | None) -> None:
        self.stack, self.optimizer = stack, optimizer
        # Where products of other sizes have other bits, batches are always full: a GPU picks its kernels by shape, and
        # other processors may. In decoding a GPU is spared that: there, only a near-tie of two tokens could change.
        on_cpu = stack.base.device.type == "cpu"
        self.full = not (on_cpu and rows_stand_alone(stack))
        self.full_decoding = self.full and on_cpu
        self.blocks = not on_cpu or (not self.full and blocks_stand_alone(stack))
        self.lanes, self.decode_lanes, self.halvings = lanes, decode_lanes or (128 if on_cpu else 1024), 0
        self._untouched: dict[Any, Any] = {}
        self.meter = Meter(stack.base.device)
        self._spoilt: set[int] = set()  # slots whose gradient was cleared before their own step, as it was not finite

    def open(self, slot: int) -> None:
        """A slot changes hands."""
        self._spoilt.discard(slot)

    def choose(self, requests: Mapping[str, Train]) -> dict[str, Train]:
        """Which go next, by trial: the oldest, and those of its size that fit beside it."""
        chosen: dict[str, Train] = {}
        size, used = next(iter(requests.values())).size, 0
        for trial_id, request in requests.items():
            if request.size == size and (not chosen or used + len(request.rows) <= self.lanes):
                chosen[trial_id] = request
                used += len(request.rows)
        return chosen

    def halve(self, decoding: bool) -> bool:
        """Go on with half as many rows at a time of what ran out of memory; whether that is possible. Decoding may as
        often as there are lanes to halve: it begins with as many as may ever fit."""
        if decoding:
            possible, self.decode_lanes = self.decode_lanes > 1, max(1, self.decode_lanes // 2)
            return possible
        if not self._may_halve:
            return False
        self.halvings += 1
        self.lanes //= 2
        return True

    @property
    def _may_halve(self) -> bool:
        return self.halvings < HALVINGS and self.lanes > 1

    def train(self, requests: Sequence[Train]) -> list[float | Exception]:
        """Add each request's gradient to its slot's; its loss counts its share of the step's.

        A learner whose loss cannot be computed gets its own exception for an answer.
        """
        lanes = [lane for request in requests for lane in _lanes(request)]
        rows = [row for request in requests for row in request.rows]
        losses: list[Any] = []

        def total(logprobs: list[Tensor]) -> Tensor | None:
            first = 0
            for request in requests:
                losses.append(self._loss(request, logprobs[first : first + len(request.rows)]))
                first += len(request.rows)
            shares = [
                loss * request.share for request, loss in zip(requests, losses, strict=True) if isinstance(loss, Tensor)
            ]
            return sum(shares[1:], shares[0]) if shares else None

        def forward(first: int, last: int) -> list[Tensor]:
            return self._forward(lanes[first:last], rows[first:last], *requests[0].size)

        leaves = self.stack.leaves
        found = gradients(forward, total, list(leaves.values()), len(rows), self.lanes)
        good = [i for i, loss in enumerate(losses) if isinstance(loss, Tensor)]
        if good:
            for i, value in zip(good, torch.stack([losses[i].detach() for i in good]).tolist(), strict=True):
                losses[i] = value
        # Last, as whatever ran out of memory after it would be done again, and these be added twice.
        self.optimizer.accumulate({name: g for name, g in zip(leaves, found, strict=True) if g is not None})
        self.meter.charge(parts((len(request.rows) * request.size[0], [i]) for i, request in enumerate(requests)))
        return losses

    def _loss(self, request: Train, logprobs: list[Tensor]) -> Any:
        try:
            return request.learner.loss(logprobs, request.rows)
        except Exception as fault:
            if ran_out(fault) and self._may_halve:  # no fault of the learner's
                raise
            return fault

    @torch.no_grad()
    def logprobs(self, slot: int, rows: Sequence[Row], prompt: int) -> list[Tensor]:
        """Per row, the log-probabilities of its labels under a slot's adapter. Rows of one size go together: what is
        asked beside a row must not change its bits."""
        check(rows, prompt, self.stack.base)
        groups: dict[tuple[int, int, bool], list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(size_of([row], prompt), []).append(index)
        found: dict[int, Tensor] = {}
        for size, indices in groups.items():
            for first in range(0, len(indices), self.lanes):
                places = indices[first : first + self.lanes]
                own = [rows[i] for i in places]
                lanes = training_lanes(slot, own, prompt, 0.0, 0, 0, 0)
                found |= zip(places, self._forward(lanes, own, *size), strict=True)
        return [found[i] for i in range(len(rows))]

    def measure(self, requests: Sequence[Measure]) -> list[list[list[float]]]:
        empty = self.stack.seats
        untouched = _askers((i, row) for i, one in enumerate(requests) if one.slot == empty for row in one.rows)

        def read(slot: int, rows: Sequence[Row], virtual: int, whose: Sequence[Sequence[int]]) -> list[list[float]]:
            found = [row.tolist() for row in self.logprobs(slot, rows, virtual)]
            sizes = [size_of([row], virtual)[0] for row in rows]
            self.meter.charge(parts(zip(sizes, whose, strict=True)))
            return found

        self._once([*untouched], lambda rows: read(empty, rows, 0, [untouched[row] for row in rows]))
        return [
            [self._untouched[row] for row in one.rows]
            if one.slot == empty
            else read(one.slot, one.rows, one.virtual, [[i]] * len(one.rows))
            for i, one in enumerate(requests)
        ]

    def _once(self, things: Iterable[Any], do: Callable[[list[Any]], list[Any]]) -> None:
        """Keep what `do` makes of these things, which differ; of each only the first time."""
        new = [thing for thing in things if thing not in self._untouched]
        self._untouched |= zip(new, do(new) if new else [], strict=True)

    def _forward(
        self, lanes: Sequence[Lane], rows: Sequence[Row], tokens: int, labels: int, several: bool
    ) -> list[Tensor]:
        """Log-probabilities of the labels of rows in lanes."""
        filled = batch(self.stack, lanes, self.lanes if self.full else len(lanes), tokens, several)
        return _of_labels(_label_logprobs(self.stack, filled, labels)[: len(lanes)], rows)

    def step(self, requests: Sequence[Step]) -> list[float]:
        norms, asked = self.optimizer.norms(), {r.slot for r in requests}
        bad = {slot for slot, norm in enumerate(norms) if not math.isfinite(norm)}
        for slot in self._spoilt & asked:
            norms[slot] = math.nan
        good = {r.slot: r.settings for r in requests if r.finite and math.isfinite(norms[r.slot])}
        self.optimizer.step(good, norms, bad | asked)
        self._spoilt = (self._spoilt | bad) - asked  # once the step is taken: one that runs out of memory comes again
        self.meter.charge(dict.fromkeys(range(len(requests)), 1.0))  # all slots are stepped, whatever their adapters
        return [norms[r.slot] for r in requests]

    def decode(self, requests: Sequence[Decode]) -> list[list[Completion]]:
        flat = [(i, prompt) for i, request in enumerate(requests) for prompt in request.prompts]
        mine = [(i, prompt) for i, prompt in flat if prompt.lane.slot != self.stack.seats]
        completions = iter(self._generated([prompt for _, prompt in mine], [[i] for i, _ in mine]))
        untouched = _askers((i, prompt) for i, prompt in flat if prompt.lane.slot == self.stack.seats)
        self._once([*untouched], lambda prompts: self._generated(prompts, [untouched[one] for one in prompts]))
        return [[self._untouched[p] if p in untouched else next(completions) for p in r.prompts] for r in requests]

    def _generated(self, prompts: Sequence[Prompt], whose: Sequence[Sequence[int]]) -> list[Completion]:
        """Completions of prompts, each with the requests that asked for it."""

        def spent(work: Mapping[int, float]) -> None:
            self.meter.charge(parts((amount, whose[i]) for i, amount in work.items()))

        return generate(self.stack, prompts, self.decode_lanes, self.full_decoding, self.blocks, spent)


def _askers(asked: Iterable[tuple[int, Any]]) -> dict[Any, list[int]]:
    """Thing -> the requests that it is in, of pairs of both."""
    found: dict[Any, list[int]] = {}
    for request, thing in asked:
        found.setdefault(thing, []).append(request)
    return found


def _label_logprobs(stack: Stack, rows: Batch, labels: int) -> Tensor:
    """(R, L): log-probability (nats, at least float32) of each of the last `labels` tokens given all before it.

    Rows end with their labels: no others get logits.
    """
    output = stack.run(rows.lanes, rows.drop, labels + 1, **rows.inputs, use_cache=False)
    logits = output.logits[:, :-1]
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.log_softmax(-1).gather(-1, rows.tokens[:, -labels:, None]).squeeze(-1)


def _lanes(request: Train) -> list[Lane]:
    adapter = request.learner.adapter
    return training_lanes(
        request.slot,
        request.rows,
        adapter.num_virtual_tokens,
        adapter.lora_dropout,
        request.seed,
        request.step,
        request.micro,
        request.learner.optimizer.neftune_noise_alpha,
    )


def _of_labels(logprobs_R_L: Tensor, rows: Sequence[Row]) -> list[Tensor]:
    """Per row, the log-probabilities of its labels, in order."""
    count = logprobs_R_L.shape[1]
    places, sizes = [], []
    for lane, row in enumerate(rows):
        end = len(row.tokens)
        own = [lane * count + count - end + i for i in range(max(0, end - count), end) if row.labels[i]]
        places += own
        sizes.append(len(own))
    chosen = logprobs_R_L.flatten()[torch.tensor(places, device=logprobs_R_L.device)]
    return list(chosen.split(sizes))
