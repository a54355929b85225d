"""Rows of several seats in one batch of fixed shape: which lane holds what, padded on the left.

A lane is a place for one row. A seat's rows stand in neighbouring lanes, whole or, if they are more than there are
lanes, in batches of their own: how they are cut never depends on who else is there. Lanes without a row hold one token
and belong to the empty slot. Widths are rounded up to a few sizes, and a row's size depends on its own seat alone.

Shapes: R lanes, T tokens (virtual ones included), L label positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.core import Row
from trainables.dropout import lane_key
from trainables.stack import Drop, Stack


@dataclass(frozen=True)
class Lane:
    """A row and whose it is: slot, tokens, virtual tokens before them, dropout rate and key."""

    slot: int
    tokens: Sequence[int]
    prompt: int = 0
    drop: float = 0.0
    key: int = 0


@dataclass
class Batch:
    """What the model takes. `inputs` are its keyword arguments; `tokens` is (R, T)."""

    inputs: dict[str, Tensor]
    tokens: Tensor
    lanes: Tensor  # (R,) slots
    drop: Drop | None


def width(tokens: int) -> int:
    """The size that this many tokens are padded to: steps of 8 up to 64, then of an eighth to a quarter.

    Every lane gets at least one padded column: where no lane of a batch has any, transformers drops the mask and
    attention takes another path, so that a seat's last bits would depend on its neighbours' lengths.
    """
    tokens, step = tokens + 1, 8
    while tokens > 8 * step:
        step *= 2
    return -(-tokens // step) * step


def size_of(rows: Sequence[Row], prompt: int) -> tuple[int, int]:
    """Tokens of these rows' lanes, and positions from the first label of any row to the end, up to 8, 32 or all."""
    whole = width(prompt + max(len(row.tokens) for row in rows))
    longest = max(len(row.tokens) - row.labels.index(True) for row in rows)
    return whole, next((size for size in (8, 32) if longest <= size < whole), whole - 1)


def batch(stack: Stack, rows: Sequence[Lane], lanes: int, tokens: int) -> Batch:
    """Rows in `lanes` lanes of `tokens` tokens. Drawn on the CPU and moved once."""
    base, empty = stack.base, stack.seats
    filled = [*rows, *[Lane(empty, (base.eos,))] * (lanes - len(rows))]
    padding = [tokens - lane.prompt - len(lane.tokens) for lane in filled]
    ids = [[base.eos] * (pad + lane.prompt) + list(lane.tokens) for lane, pad in zip(filled, padding, strict=True)]
    mask = [[0] * pad + [1] * (tokens - pad) for pad in padding]
    place = [[max(0, column - pad) for column in range(tokens)] for pad in padding]
    packed = torch.tensor([ids, mask, place], device=base.device)
    slots = torch.tensor([lane.slot for lane in filled], device=base.device)
    inputs = {"attention_mask": packed[1], "position_ids": packed[2]}
    if stack.max_prompt:
        starts = torch.tensor(padding, device=base.device)[:, None]
        lengths = torch.tensor([lane.prompt for lane in filled], device=base.device)[:, None]
        inputs["inputs_embeds"] = _with_prompts(stack, packed[0], starts, lengths, slots)
    else:
        inputs["input_ids"] = packed[0]
    return Batch(inputs, packed[0], slots, _drop(filled, base.device))


def _with_prompts(stack: Stack, ids_R_T: Tensor, starts_R_1: Tensor, lengths_R_1: Tensor, slots_R: Tensor) -> Tensor:
    """Embeddings (R, T, H), each lane's virtual tokens standing between its padding and its tokens."""
    embeddings = stack.base.model.get_input_embeddings()(ids_R_T)
    place = torch.arange(ids_R_T.shape[1], device=ids_R_T.device) - starts_R_1
    virtual = (place >= 0) & (place < lengths_R_1)
    number = slots_R[:, None] * stack.max_prompt + place.clamp(0, stack.max_prompt - 1)
    return torch.where(virtual[..., None], stack.prompts(number).to(embeddings.dtype), embeddings)


def _drop(lanes: Sequence[Lane], device: torch.device) -> Drop | None:
    if not any(lane.drop for lane in lanes):
        return None
    rates = torch.tensor([lane.drop for lane in lanes], device=device)
    return Drop(rates, torch.tensor([lane.key for lane in lanes], dtype=torch.int32, device=device))


def training_lanes(
    slot: int, rows: Sequence[Row], prompt: int, drop: float, seed: int, step: int, micro: int
) -> list[Lane]:
    """A micro-batch's rows as lanes, each with its own dropout key."""
    return [
        Lane(slot, row.tokens, prompt, drop, lane_key(seed, step, micro, i) if drop else 0)
        for i, row in enumerate(rows)
    ]
