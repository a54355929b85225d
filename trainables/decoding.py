"""Run a base on lanes of rows: log-probabilities of labels, and greedy decoding for all seats at once.

Rows are padded on the left, so that labels and next tokens stand at the end of every row and logits are computed only
there. Shapes: R lanes, T tokens, L label positions at the end of every row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainables.bases import Base
from trainables.lanes import Batch, Lane, batch, width
from trainables.stack import Stack

FEWEST_LANES = 8  # a batch is not made smaller: products of a few rows take other paths in BLAS


@dataclass(frozen=True)
class Prompt:
    """What one lane decodes: a row to go on from, for at most `max_new_tokens` tokens."""

    lane: Lane
    max_new_tokens: int


@dataclass
class Completion:
    """Tokens without the end token, and whether it was produced."""

    tokens: list[int]
    ended: bool = False


def label_logprobs(stack: Stack, rows: Batch, labels: int) -> Tensor:
    """(R, L): log-probability (nats, at least float32) of each of the last `labels` tokens given all before it."""
    output = stack.run(rows.lanes, rows.drop, **rows.inputs, logits_to_keep=labels + 1, use_cache=False)
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
    """Greedy completions, in the order of `prompts`. Prompts of one width share a batch of at most `lanes`.

    `full`: batches always have that many lanes, also when few rows are left.
    """
    results = [Completion([]) for _ in prompts]
    for tokens, chosen in _by_width(prompts, lanes):
        rows = [prompts[i] for i in chosen]
        for index, completion in zip(chosen, _decode(stack, rows, tokens, lanes if full else 0), strict=True):
            results[index] = completion
    return results


def _by_width(prompts: Sequence[Prompt], lanes: int) -> Iterator[tuple[int, list[int]]]:
    groups: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault(width(prompt.lane.prompt + len(prompt.lane.tokens)), []).append(index)
    for tokens, indices in sorted(groups.items()):
        for start in range(0, len(indices), lanes):
            yield tokens, indices[start : start + lanes]


def _decode(stack: Stack, prompts: Sequence[Prompt], tokens: int, fixed: int) -> list[Completion]:
    """One batch with a key-value cache; when half of its lanes have ended, the others move together.

    `fixed`: the number of lanes from the first to the last token; 0: as many as there are rows.
    """
    rows = batch(stack, [p.lane for p in prompts], fixed or _lanes_for(len(prompts)), tokens)
    results = [Completion([]) for _ in prompts]
    owners = list(range(len(rows.lanes)))  # which prompt each lane works for; beyond the last: nobody
    inputs, slots, cache = rows.inputs, rows.lanes, None
    for count in range(max(p.max_new_tokens for p in prompts)):
        output = stack.run(slots, None, **inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, next_R = output.past_key_values, output.logits[:, -1].argmax(-1)
        alive = []
        for lane, (owner, token) in enumerate(zip(owners, next_R.tolist(), strict=True)):
            if owner >= len(prompts) or results[owner].ended or count >= prompts[owner].max_new_tokens:
                continue
            if token == stack.base.eos:
                results[owner].ended = True
                continue
            results[owner].tokens.append(token)
            if count + 1 < prompts[owner].max_new_tokens:
                alive.append(lane)
        if not alive:
            break
        mask, positions = inputs["attention_mask"], inputs["position_ids"][:, -1:] + 1
        fewer = _lanes_for(len(alive))
        if not fixed and fewer * 2 <= len(owners) and _can_compact(cache):
            idle = sorted(set(range(len(owners))) - set(alive))
            order = alive + idle[: fewer - len(alive)]
            keep = torch.tensor(order, device=slots.device)
            cache.batch_select_indices(keep)
            mask, positions, next_R, slots = mask[keep], positions[keep], next_R[keep], slots[keep]
            owners = [owners[lane] for lane in order]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        inputs = {"input_ids": next_R[:, None], "attention_mask": mask, "position_ids": positions}
    return results


def _lanes_for(rows: int) -> int:
    """The next multiple of `FEWEST_LANES`."""
    return -(-rows // FEWEST_LANES) * FEWEST_LANES


def _can_compact(cache: Any) -> bool:
    """Some hybrid architectures keep a convolution state that cannot drop rows."""
    return all(hasattr(layer, "batch_select_indices") for layer in getattr(cache, "layers", [None]))
