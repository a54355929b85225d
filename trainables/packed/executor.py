"""Execute the requests of many trials together on one base.

A trial is a generator: it yields a request, waits, and continues with the answer. `BatchExecutor` answers requests of
one kind for all trials at once: a batch of rows forward and backward, an optimizer step, or decoding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trainables.core import Completion, Row
from trainables.packed.adapter_stack import AdapterStack
from trainables.packed.batching import BatchSize, Lane, ModelInputs, batch_size_of, build_batch
from trainables.packed.decoding import Prompt, generate
from trainables.packed.determinism import blocks_are_independent, rows_are_independent
from trainables.packed.requests import DecodeRequest, LogprobRequest, StepRequest, TrainRequest
from trainables.packed.stacked_adamw import StackedAdamW
from trainables.packed.time_meter import TimeMeter, work_by_request
from trainables.training.groups import grouped, of_members
from trainables.training.oom import MAX_HALVINGS, gradients, is_out_of_memory
from trainables.training.sequence_packing import check_packed_rows


def label_logprobs(stack: AdapterStack, rows: ModelInputs, labels: int) -> Tensor:
    """Return (R, L): the log-probability (nats, float32 or wider) of each of the last `labels` tokens of every row.

    Labels stand at the end of the rows, so logits are computed only there.
    """
    logits = _label_logits(stack, rows, labels)
    return logits.log_softmax(-1).gather(-1, rows.tokens[:, -labels:, None]).squeeze(-1)


def label_likelihoods(stack: AdapterStack, rows: ModelInputs, labels: int) -> Tensor:
    """Return (R, L, 2): what `label_logprobs` does, and 1 where the label is the likeliest token, else 0."""
    logits, tokens = _label_logits(stack, rows, labels), rows.tokens[:, -labels:, None]
    logprobs = logits.log_softmax(-1).gather(-1, tokens)
    return torch.cat([logprobs, (logits.argmax(-1, keepdim=True) == tokens).to(logprobs)], -1)


def _label_logits(stack: AdapterStack, rows: ModelInputs, labels: int) -> Tensor:
    """Return (R, L, V), in float32 or wider, divided by each row's temperature."""
    logits = stack.run(rows.lanes, rows.drop, labels + 1, **rows.inputs, use_cache=False).logits[:, :-1]
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide if rows.temperature is None else wide / rows.temperature


BRANCHES = 4  # where batches are filled up, those of rows with branches have so many times fewer lanes
MeasureLabels = Callable[[AdapterStack, ModelInputs, int], Tensor]


class BatchExecutor:
    """Answers requests on stacked adapters, in batches of `lanes` rows; decodes `decode_lanes` prompts at a time.

    `decode_lanes` None means 128 on a CPU, whose caches hold no more, and 1024 on a GPU, where a decoding step
    needs as many kernel launches for many rows as for one.
    """

    def __init__(self, stack: AdapterStack, optimizer: StackedAdamW, lanes: int, decode_lanes: int | None) -> None:
        self.stack, self.optimizer = stack, optimizer
        # A GPU, and some CPUs, choose a kernel by the shape of a product, so the number of rows may change a row's last
        # bits. There, every batch is filled up to `lanes` rows. A GPU does not fill up batches for decoding: other last
        # bits change a completion only where two tokens are almost equally likely.
        on_cpu = stack.base.device.type == "cpu"
        self.full = not (on_cpu and rows_are_independent(stack))
        self.full_decoding = self.full and on_cpu
        self.blocks = not on_cpu or (not self.full and blocks_are_independent(stack))
        self.lanes, self.decode_lanes, self.halvings = lanes, decode_lanes or (128 if on_cpu else 1024), 0
        self._base_answers: dict[Any, Any] = {}  # prompt or row -> the untouched base's answer
        self.meter = TimeMeter(stack.base.device)
        self._nonfinite: set[int] = set()  # slots whose non-finite gradient was cleared at another slot's step

    def open(self, slot: int) -> None:
        """Forget whether a slot's gradient was finite, because a new trial takes the slot."""
        self._nonfinite.discard(slot)

    def choose(self, requests: Mapping[str, TrainRequest]) -> dict[str, TrainRequest]:
        """Choose the next requests, by trial id: the oldest, and others of its size while the batch has room."""
        chosen: dict[str, TrainRequest] = {}
        size, used = next(iter(requests.values())).size, 0
        for trial_id, request in requests.items():
            if request.size == size and (not chosen or used + len(request.groups) <= self._lanes(size)):
                chosen[trial_id] = request
                used += len(request.groups)
        return chosen

    def halve(self, decoding: bool) -> bool:
        """Halve the rows of a batch after running out of memory; return False if that is no longer allowed.

        Training allows `MAX_HALVINGS`. Decoding halves down to one lane, as it begins with a guess of what fits.
        """
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
        return self.halvings < MAX_HALVINGS and self.lanes > 1

    def train(self, requests: Sequence[TrainRequest]) -> list[float | Exception]:
        """Add the gradient of `share` times each request's loss to its slot; return the losses.

        A learner whose loss raises gets the exception as its answer.
        """
        lanes = [lane for request in requests for lane in request.lanes()]
        rows, size = [own.row for request in requests for own in request.groups], requests[0].size
        losses: list[Any] = []

        def total(logprobs: list[Tensor]) -> Tensor | None:
            first = 0
            for request in requests:
                losses.append(self._loss(request, logprobs[first : first + len(request.groups)]))
                first += len(request.groups)
            shares = [
                loss * request.share for request, loss in zip(requests, losses, strict=True) if isinstance(loss, Tensor)
            ]
            return sum(shares[1:], shares[0]) if shares else None

        def forward(first: int, last: int) -> list[Tensor]:
            return self._forward(lanes[first:last], rows[first:last], size)

        leaves = self.stack.leaves
        found = gradients(forward, total, list(leaves.values()), len(rows), self._lanes(size))
        good = [i for i, loss in enumerate(losses) if isinstance(loss, Tensor)]
        if good:
            for i, value in zip(good, torch.stack([losses[i].detach() for i in good]).tolist(), strict=True):
                losses[i] = value
        # Accumulate last: if memory ran out after it, the whole batch would be repeated and be added twice.
        self.optimizer.accumulate({name: g for name, g in zip(leaves, found, strict=True) if g is not None})
        self.meter.charge(
            work_by_request((len(request.groups) * size.tokens, [i]) for i, request in enumerate(requests))
        )
        return losses

    def _lanes(self, size: BatchSize) -> int:
        """Return the most rows of a batch of this size."""
        return -(-self.lanes // BRANCHES) if self.full and size.several == "branches" else self.lanes

    def _loss(self, request: TrainRequest, logprobs: list[Tensor]) -> Any:
        own = of_members(logprobs, request.groups, request.rows)
        try:
            return request.learner.loss(own, request.rows)
        except Exception as fault:
            if is_out_of_memory(fault) and self._may_halve:  # not the learner's fault: the batch is repeated
                raise
            return fault

    @torch.no_grad()
    def logprobs(
        self,
        slot: int,
        rows: Sequence[Row],
        prompt: int,
        measure: MeasureLabels = label_logprobs,
        temperature: float = 1.0,
    ) -> list[Tensor]:
        """Return, per row, the log-probabilities of its labels under a slot's adapter, or what `measure` returns.

        Only rows of one size share a batch, so that a row's bits do not depend on the other rows.
        """
        check_packed_rows(rows, prompt, self.stack.base)
        groups: dict[BatchSize, list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(batch_size_of([row], prompt), []).append(index)
        found: dict[int, Tensor] = {}
        for size, indices in groups.items():
            for first in range(0, len(indices), self._lanes(size)):
                places = indices[first : first + self._lanes(size)]
                own = [rows[i] for i in places]
                plain = Lane(slot, (), prompt, temperature=temperature)
                lanes = [replace(plain, tokens=row.tokens, starts=row.starts, branches=row.branches) for row in own]
                found |= zip(places, self._forward(lanes, own, size, measure), strict=True)
        return [found[i] for i in range(len(rows))]

    def logprob_lists(self, requests: Sequence[LogprobRequest]) -> list[list[list[float]]]:
        """Return, per request and row, the log-probabilities of the labels as floats."""
        empty = self.stack.seats
        kept = [one.slot == empty and one.temperature == 1 and not one.once for one in requests]
        untouched = _requests_by_item((i, row) for i, one in enumerate(requests) if kept[i] for row in one.rows)

        def read(
            slot: int, rows: Sequence[Row], virtual: int, payers: Sequence[Sequence[int]], temperature: float = 1.0
        ) -> list[list[float]]:
            found = [row.tolist() for row in self.logprobs(slot, rows, virtual, temperature=temperature)]
            sizes = [batch_size_of([row], virtual).tokens for row in rows]
            self.meter.charge(work_by_request(zip(sizes, payers, strict=True)))
            return found

        def read_joined(number: int, one: LogprobRequest) -> list[list[float]]:
            groups = grouped(one.rows, range(len(one.rows)), self.stack.base, one.virtual)
            joined, payers = [own.row for own in groups], [[number]] * len(groups)
            return of_members(read(one.slot, joined, one.virtual, payers, one.temperature), groups, one.rows)

        self._answer_once([*untouched], lambda rows: read(empty, rows, 0, [untouched[row] for row in rows]))
        return [
            [self._base_answers[row] for row in one.rows] if kept[i] else read_joined(i, one)
            for i, one in enumerate(requests)
        ]

    def _answer_once(self, items: Iterable[Any], answer: Callable[[list[Any]], list[Any]]) -> None:
        """Compute and cache the base's answers to the items that are not cached; `items` are distinct."""
        new = [item for item in items if item not in self._base_answers]
        self._base_answers |= zip(new, answer(new) if new else [], strict=True)

    def _forward(
        self,
        lanes: Sequence[Lane],
        rows: Sequence[Row],
        size: BatchSize,
        measure: MeasureLabels = label_logprobs,
    ) -> list[Tensor]:
        """Measure the labels of rows in lanes, in one forward pass: their log-probabilities, or what else is asked."""
        count = self._lanes(size) if self.full else len(lanes)
        filled = build_batch(self.stack, lanes, count, size.tokens, bool(size.several))
        return _select_labels(measure(self.stack, filled, size.labels)[: len(lanes)], rows)

    def step(self, requests: Sequence[StepRequest]) -> list[float]:
        """Step the optimizer of each request's slot if its gradient is finite; return the norms before clipping."""
        norms, stepped = self.optimizer.norms(), {r.slot for r in requests}
        bad = {slot for slot, norm in enumerate(norms) if not math.isfinite(norm)}
        for slot in self._nonfinite & stepped:
            norms[slot] = math.nan
        good = {r.slot: r.settings for r in requests if r.finite and math.isfinite(norms[r.slot])}
        self.optimizer.step(good, norms, bad | stepped)
        self._nonfinite = (self._nonfinite | bad) - stepped  # after the step: one that runs out of memory is repeated
        self.meter.charge(dict.fromkeys(range(len(requests)), 1.0))  # all slots are stepped, whatever their adapters
        return [norms[r.slot] for r in requests]

    def decode(self, requests: Sequence[DecodeRequest]) -> list[list[Completion]]:
        """Return, per request, a completion of each prompt."""
        flat = [(i, prompt) for i, request in enumerate(requests) for prompt in request.prompts]
        mine = [(i, prompt) for i, prompt in flat if prompt.lane.slot != self.stack.seats]
        completions = iter(self._generated([prompt for _, prompt in mine], [[i] for i, _ in mine]))
        untouched = _requests_by_item((i, prompt) for i, prompt in flat if prompt.lane.slot == self.stack.seats)
        self._answer_once([*untouched], lambda prompts: self._generated(prompts, [untouched[one] for one in prompts]))
        return [[self._base_answers[p] if p in untouched else next(completions) for p in r.prompts] for r in requests]

    def _generated(self, prompts: Sequence[Prompt], payers: Sequence[Sequence[int]]) -> list[Completion]:
        """Complete prompts, and charge the time of each to its `payers`: the requests that it is in."""

        def charge(work: Mapping[int, float]) -> None:
            self.meter.charge(work_by_request((amount, payers[i]) for i, amount in work.items()))

        return generate(self.stack, prompts, self.decode_lanes, self.full_decoding, self.blocks, charge)


def _requests_by_item(pairs: Iterable[tuple[int, Any]]) -> dict[Any, list[int]]:
    """Group pairs of a request's number and an item: item -> the numbers of the requests that it is in."""
    found: dict[Any, list[int]] = {}
    for request, item in pairs:
        found.setdefault(item, []).append(request)
    return found


def _select_labels(measured_R_L: Tensor, rows: Sequence[Row]) -> list[Tensor]:
    """Return, per row, what was measured of its labels, in order."""
    count = measured_R_L.shape[1]
    places, sizes = [], []
    for lane, row in enumerate(rows):
        end = len(row.tokens)
        own = [lane * count + count - end + i for i in range(max(0, end - count), end) if row.labels[i]]
        places += own
        sizes.append(len(own))
    chosen = measured_R_L.flatten(0, 1)[torch.tensor(places, device=measured_R_L.device)]
    return list(chosen.split(sizes))
