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
from trainables.packed.adapter_stack import AdapterStack, BatchDropout
from trainables.training.neftune import amplitude, noised
from trainables.training.sequence_packing import document_attention, document_outline


@dataclass(frozen=True)
class Lane:
    """A row and whose it is: slot, tokens, virtual tokens before them, dropout rate and key, where further documents
    start, and the alpha of NEFTune's noise."""

    slot: int
    tokens: Sequence[int]
    prompt: int = 0
    drop: float = 0.0
    key: int = 0
    starts: Sequence[int] = ()
    noise: float = 0.0


@dataclass
class ModelInputs:
    """What the model takes. `inputs` are its keyword arguments; `tokens` is (R, T)."""

    inputs: dict[str, Tensor]
    tokens: Tensor
    lanes: Tensor  # (R,) slots
    drop: BatchDropout | None


def padded_width(tokens: int) -> int:
    """The size that this many tokens are padded to: steps of 8 up to 64, then of an eighth to a quarter.

    Every lane gets at least one padded column: where no lane of a batch has any, transformers drops the mask and
    attention takes another path, so that a seat's last bits would depend on its neighbours' lengths.
    """
    tokens, step = tokens + 1, 8
    while tokens > 8 * step:
        step *= 2
    return -(-tokens // step) * step


def batch_size_of(rows: Sequence[Row], prompt: int) -> tuple[int, int, bool]:
    """Tokens of these rows' lanes; positions from the first label of any row to the end, up to a power of two from 8 or
    all; and whether any row holds several documents, as attention then takes another path."""
    whole = padded_width(prompt + max(len(row.tokens) for row in rows))
    longest = max(len(row.tokens) - row.labels.index(True) for row in rows)
    labels = min(max(8, 1 << (longest - 1).bit_length()), whole - 1)
    return whole, labels, any(row.starts for row in rows)


def build_batch(
    stack: AdapterStack, rows: Sequence[Lane], lanes: int, tokens: int, several: bool = False
) -> ModelInputs:
    """Rows in `lanes` lanes of `tokens` tokens. Drawn on the CPU and moved once.

    `several`: attend by document. Lanes with `starts` need it; what it is for the others is up to their own seat.
    """
    base, empty = stack.base, stack.seats
    filled = [*rows, *[Lane(empty, (base.eos,))] * (lanes - len(rows))]
    padding = [tokens - lane.prompt - len(lane.tokens) for lane in filled]
    ids = [[base.eos] * (pad + lane.prompt) + list(lane.tokens) for lane, pad in zip(filled, padding, strict=True)]
    outlines = [document_outline(pad, tokens - pad, lane.starts) for lane, pad in zip(filled, padding, strict=True)]
    mask, place = ([own[part] for own in outlines] for part in range(2))
    packed = torch.tensor([ids, mask, place], device=base.device)
    slots = torch.tensor([lane.slot for lane in filled], device=base.device)
    inputs = {
        "attention_mask": document_attention(packed[1], base.model) if several else packed[1],
        "position_ids": packed[2],
    }
    noisy = any(lane.noise for lane in filled)
    if stack.max_prompt or noisy:
        embeddings = base.model.get_input_embeddings()(packed[0])
        if noisy:
            embeddings = _with_noise(filled, embeddings)
        if stack.max_prompt:
            starts = torch.tensor(padding, device=base.device)[:, None]
            lengths = torch.tensor([lane.prompt for lane in filled], device=base.device)[:, None]
            embeddings = _with_prompts(stack, embeddings, starts, lengths, slots)
        inputs["inputs_embeds"] = embeddings
    else:
        inputs["input_ids"] = packed[0]
    return ModelInputs(inputs, packed[0], slots, _drop(filled, base.device))


def _with_noise(lanes: Sequence[Lane], embeddings: Tensor) -> Tensor:
    """Embeddings (R, T, H), NEFTune's noise on those of lanes that have any."""
    device, hidden = embeddings.device, embeddings.shape[-1]
    bounds = [amplitude(lane.noise, len(lane.tokens), hidden) for lane in lanes]
    keys = torch.tensor([lane.key for lane in lanes], dtype=torch.int32, device=device)
    return noised(keys, torch.tensor(bounds, device=device), embeddings)


def _with_prompts(
    stack: AdapterStack, embeddings: Tensor, starts_R_1: Tensor, lengths_R_1: Tensor, slots_R: Tensor
) -> Tensor:
    """Embeddings (R, T, H), each lane's virtual tokens standing between its padding and its tokens."""
    place = torch.arange(embeddings.shape[1], device=embeddings.device) - starts_R_1
    virtual = (place >= 0) & (place < lengths_R_1)
    number = slots_R[:, None] * stack.max_prompt + place.clamp(0, stack.max_prompt - 1)
    return torch.where(virtual[..., None], stack.prompts(number).to(embeddings.dtype), embeddings)


def _drop(lanes: Sequence[Lane], device: torch.device) -> BatchDropout | None:
    if not any(lane.drop for lane in lanes):
        return None
    rates = torch.tensor([lane.drop for lane in lanes], device=device)
    return BatchDropout(rates, torch.tensor([lane.key for lane in lanes], dtype=torch.int32, device=device))
