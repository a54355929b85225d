"""Run a base on lanes of rows: log-probabilities of labels, and greedy decoding for all seats at once.

Rows are padded on the left, so that labels and next tokens stand at the end of every row and logits are computed only
there. Shapes: R lanes, T tokens, L label positions at the end of every row, V vocabulary.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from trainables.bases import Base
from trainables.core import Completion
from trainables.kvcache import Joined, joins
from trainables.lanes import Batch, Lane, batch, width
from trainables.stack import Stack

FEWEST_LANES = 8  # a batch is not made smaller: products of a few rows take other paths in BLAS


@dataclass(frozen=True)
class Prompt:
    """What one lane decodes: a row of padded size `width` to go on from, for at most `max_new_tokens` tokens.

    `cache` is the size of the widest prompt of the same request: all of them go on in one batch of that size.
    """

    lane: Lane
    width: int
    cache: int
    max_new_tokens: int


def prompts_of(slot: int, rows: Sequence[Sequence[int]], virtual: int, max_new_tokens: int) -> list[Prompt]:
    """A seat's request: prompts as token ids, after so many virtual tokens."""
    widths = [width(virtual + len(tokens)) for tokens in rows]
    return [
        Prompt(Lane(slot, tuple(tokens), virtual), own, max(widths), max_new_tokens)
        for tokens, own in zip(rows, widths, strict=True)
    ]


def label_logprobs(stack: Stack, rows: Batch, labels: int) -> Tensor:
    """(R, L): log-probability (nats, at least float32) of each of the last `labels` tokens given all before it."""
    output = stack.run(rows.lanes, rows.drop, labels + 1, **rows.inputs, use_cache=False)
    logits = output.logits[:, :-1]
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.log_softmax(-1).gather(-1, rows.tokens[:, -labels:, None]).squeeze(-1)


@torch.no_grad()
def rows_stand_alone(base: Base) -> bool:
    """Whether a row of this machine's matrix products has the same bits in a batch of any size from `FEWEST_LANES` up.

    Tried on the base's own weights, one of each shape, not assumed: it depends on the BLAS and the processor.
    """
    shapes = {m.weight.shape: m for m in base.model.modules() if isinstance(m, torch.nn.Linear) and m.weight.ndim == 2}
    generator = torch.Generator().manual_seed(0)
    for module in shapes.values():
        rows = torch.randn(256, module.in_features, generator=generator).to(base.device, base.dtype)
        whole = module(rows)
        if not all(torch.equal(module(rows[:count]), whole[:count]) for count in (FEWEST_LANES, 24, 40, 96, 200)):
            return False
    return True


@torch.no_grad()
def generate(stack: Stack, prompts: Sequence[Prompt], lanes: int, full: bool = False) -> list[Completion]:
    """Greedy completions, in the order of `prompts`, at most `lanes` at a time.

    `full`: batches always have that many lanes, also when few rows are left.
    """
    results = [Completion([]) for _ in prompts]
    together = joins(stack.base)
    groups: dict[int, list[int]] = {}
    for index in sorted(range(len(prompts)), key=lambda i: prompts[i].width):
        groups.setdefault(prompts[index].cache if together else prompts[index].width, []).append(index)
    for room, indices in sorted(groups.items()):
        for start in range(0, len(indices), lanes):
            chosen = indices[start : start + lanes]
            completions = _decode(stack, [prompts[i] for i in chosen], room, lanes if full else 0)
            for index, completion in zip(chosen, completions, strict=True):
                results[index] = completion
    return results


def _decode(stack: Stack, prompts: Sequence[Prompt], room: int, fixed: int) -> list[Completion]:
    """One batch with a key-value cache; when half of its lanes have ended, the others move together.

    `room`: columns of the cache that prompts take; `fixed`: lanes to the very end, or 0: as many as there are rows.
    """
    results = [Completion([]) for _ in prompts]
    at = _prefill(stack, prompts, room, fixed)
    for count in range(max(p.max_new_tokens for p in prompts)):
        alive = []
        said = zip(at.owners, at.next_R.tolist(), at.logprob_R.tolist(), strict=True)
        for lane, (owner, token, logprob) in enumerate(said):
            if owner is None or results[owner].ended or count >= prompts[owner].max_new_tokens:
                continue
            results[owner].logprobs.append(logprob)
            if token == stack.base.eos:
                results[owner].ended = True
                continue
            results[owner].tokens.append(token)
            if count + 1 < prompts[owner].max_new_tokens:
                alive.append(lane)
        if not alive:
            break
        if not fixed and _lanes_for(len(alive)) * 2 <= len(at.owners) and _can_compact(at.cache):
            at.keep(alive, _lanes_for(len(alive)))
        at.step(stack)
    return results


@dataclass
class _Lanes:
    """A batch between two tokens. `owners`: which prompt each lane works for, None where it works for nobody."""

    owners: list[int | None]
    slots: Tensor  # (R,)
    mask: Tensor  # (R, T)
    position_R_1: Tensor  # of the last token
    next_R: Tensor
    logprob_R: Tensor  # of the next token, nats
    cache: Any = None

    def step(self, stack: Stack) -> None:
        """Take the next token in, and find the one after it."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], 1)
        self.position_R_1 = self.position_R_1 + 1
        if math.isfinite(stack.base.positions):  # lanes whose row has ended go on until the batch shrinks
            self.position_R_1.clamp_(max=int(stack.base.positions) - 1)
        with _attention_from_one_token(stack.base.device):
            output = stack.run(
                self.slots,
                None,
                1,
                input_ids=self.next_R[:, None],
                attention_mask=self.mask,
                position_ids=self.position_R_1,
                past_key_values=self.cache,
                use_cache=True,
            )
        self.cache = output.past_key_values
        self.next_R, self.logprob_R = likeliest(output.logits[:, -1])

    def keep(self, alive: list[int], lanes: int) -> None:
        """Go on with these lanes, and as many others as make `lanes`."""
        idle = sorted(set(range(len(self.owners))) - set(alive))
        order = alive + idle[: lanes - len(alive)]
        chosen = torch.tensor(order, device=self.slots.device)
        self.cache.batch_select_indices(chosen)
        self.slots, self.mask = self.slots[chosen], self.mask[chosen]
        self.next_R, self.logprob_R = self.next_R[chosen], self.logprob_R[chosen]
        self.position_R_1 = self.position_R_1[chosen]
        self.owners = [self.owners[lane] for lane in order]


def _prefill(stack: Stack, prompts: Sequence[Prompt], room: int, fixed: int) -> _Lanes:
    """Run prompts, sorted by width, a width at a time, and join their caches, padded on the left to `room` columns."""
    lanes, device = fixed or _lanes_for(len(prompts)), stack.base.device
    at = _Lanes(
        owners=[*range(len(prompts)), *[None] * (lanes - len(prompts))],
        slots=torch.full((lanes,), stack.seats, device=device),
        mask=torch.zeros(lanes, room, dtype=torch.long, device=device),
        position_R_1=torch.zeros(lanes, 1, dtype=torch.long, device=device),
        next_R=torch.zeros(lanes, dtype=torch.long, device=device),
        logprob_R=torch.zeros(lanes, device=device),
    )
    at.mask[:, -1] = 1  # a lane of nobody sees one column of zeros
    together = Joined(lanes, room, max(p.max_new_tokens for p in prompts)) if joins(stack.base) else None
    for tokens, group in groupby(range(len(prompts)), key=lambda i: prompts[i].width):
        first, *others = group
        count = 1 + len(others)
        own = slice(first, first + count)
        rows = batch(stack, [p.lane for p in prompts[own]], fixed or _lanes_for(count), tokens)
        output = stack.run(rows.lanes, None, 1, **rows.inputs, use_cache=True)
        at.slots[own] = rows.lanes[:count]
        at.mask[own, room - tokens :] = rows.inputs["attention_mask"][:count]
        at.position_R_1[own] = rows.inputs["position_ids"][:count, -1:]
        at.next_R[own], at.logprob_R[own] = likeliest(output.logits[:count, -1])
        if together:
            together.put(count, output.past_key_values)
    at.cache = together.cache() if together else output.past_key_values
    return at


def _attention_from_one_token(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """With several threads, the last bits of the CPU's fused one depend on where in the batch a row stands."""
    fused = device.type != "cpu" or torch.get_num_threads() == 1
    return contextlib.nullcontext() if fused else sdpa_kernel(SDPBackend.MATH)


def likeliest(logits_R_V: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token of each row, and its log-probability (nats, float32)."""
    wide, next_R = logits_R_V.float(), logits_R_V.argmax(-1)
    return next_R, wide.gather(-1, next_R[:, None])[:, 0] - wide.logsumexp(-1)


def _lanes_for(rows: int) -> int:
    """The next multiple of `FEWEST_LANES`."""
    return -(-rows // FEWEST_LANES) * FEWEST_LANES


def _can_compact(cache: Any) -> bool:
    """Some hybrid architectures keep a convolution state that cannot drop rows."""
    return all(hasattr(layer, "batch_select_indices") for layer in getattr(cache, "layers", [None]))
