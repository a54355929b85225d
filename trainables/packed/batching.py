"""Build one batch of fixed shape from the rows of several trials, padded on the left.

A *lane* is the place of one row in a batch. The rows of a trial fill neighbouring lanes; if there are more rows than
lanes, they get batches of their own, so that how they are divided never depends on the other trials. Lanes without a
row hold one token and belong to the empty slot. Widths are rounded up to a few sizes, and a row's size depends on its
own trial alone.

Shapes: R lanes, T tokens (virtual ones included), L label positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trainables.core import Row
from trainables.packed.adapter_stack import AdapterStack, BatchDropout
from trainables.training.neftune import amplitude, noised
from trainables.training.sequence_packing import document_attention, document_outline


@dataclass(frozen=True)
class Lane:
    """A row in a batch, and its slot."""

    slot: int
    tokens: Sequence[int]
    prompt: int = 0  # virtual tokens before the row
    drop: float = 0.0  # dropout rate
    key: int = 0  # of dropout and noise
    starts: Sequence[int] = ()  # where further documents start
    branches: Sequence[int] = ()  # where branches start, behind a trunk
    noise: float = 0.0  # alpha of NEFTune's noise
    temperature: float = 1.0  # logits are divided by it


@dataclass
class ModelInputs:
    """The model's inputs: `inputs` are its keyword arguments, `tokens` is (R, T)."""

    inputs: dict[str, Tensor]
    tokens: Tensor
    lanes: Tensor  # (R,) slots
    drop: BatchDropout | None
    temperature: Tensor | None  # (R, 1, 1); None: 1 for all


def padded_width(tokens: int) -> int:
    """Return the width to which so many tokens are padded: in steps of 8 up to 64, then of an eighth to a quarter.

    Every lane gets at least one padded column. If no lane of a batch had any, transformers would drop the mask and
    attention would take another path, so that a trial's last bits would depend on the other trials' lengths.
    """
    tokens, step = tokens + 1, 8
    while tokens > 8 * step:
        step *= 2
    return -(-tokens // step) * step


class BatchSize(NamedTuple):
    """The size of a batch of rows; batches of one size can be one batch."""

    tokens: int  # padded
    labels: int  # label positions
    several: Literal["", "documents", "branches"]  # what rows hold several of


def batch_size_of(rows: Sequence[Row], prompt: int) -> BatchSize:
    """Return the size of a batch of these rows.

    Label positions reach from the first label of any row to the end, rounded up to a power of two of at least 8.
    Batches of several documents or branches have a size of their own, as attention then takes another path.
    """
    whole = padded_width(prompt + max(len(row.tokens) for row in rows))
    longest = max(len(row.tokens) - row.labels.index(True) for row in rows)
    labels = min(max(8, 1 << (longest - 1).bit_length()), whole - 1)
    branches, documents = any(len(row.branches) > 1 for row in rows), any(row.starts for row in rows)
    return BatchSize(whole, labels, "branches" if branches else "documents" if documents else "")


def build_batch(
    stack: AdapterStack, rows: Sequence[Lane], lanes: int, tokens: int, several: bool = False
) -> ModelInputs:
    """Put rows into `lanes` lanes of `tokens` tokens. Tensors are made on the CPU and copied to the device once.

    `several`: attend by document, which lanes with `starts` or several branches need.
    """
    base, empty = stack.base, stack.seats
    filled = [*rows, *[Lane(empty, (base.eos,))] * (lanes - len(rows))]
    padding = [tokens - lane.prompt - len(lane.tokens) for lane in filled]
    ids = [[base.eos] * (pad + lane.prompt) + list(lane.tokens) for lane, pad in zip(filled, padding, strict=True)]
    outlines = [
        document_outline(pad, tokens - pad, lane.starts, lane.branches)
        for lane, pad in zip(filled, padding, strict=True)
    ]
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
    return ModelInputs(inputs, packed[0], slots, _drop(filled, base.device), _temperature(filled, base.device))


def _with_noise(lanes: Sequence[Lane], embeddings: Tensor) -> Tensor:
    """Add NEFTune's noise to the embeddings (R, T, H) of lanes that have any."""
    device, hidden = embeddings.device, embeddings.shape[-1]
    bounds = [amplitude(lane.noise, len(lane.tokens), hidden) for lane in lanes]
    keys = torch.tensor([lane.key for lane in lanes], dtype=torch.int32, device=device)
    return noised(keys, torch.tensor(bounds, device=device), embeddings)


def _with_prompts(
    stack: AdapterStack, embeddings: Tensor, starts_R_1: Tensor, lengths_R_1: Tensor, slots_R: Tensor
) -> Tensor:
    """Put each lane's virtual tokens between its padding and its tokens; embeddings are (R, T, H)."""
    place = torch.arange(embeddings.shape[1], device=embeddings.device) - starts_R_1
    virtual = (place >= 0) & (place < lengths_R_1)
    number = slots_R[:, None] * stack.max_prompt + place.clamp(0, stack.max_prompt - 1)
    return torch.where(virtual[..., None], stack.prompts(number).to(embeddings.dtype), embeddings)


def _drop(lanes: Sequence[Lane], device: torch.device) -> BatchDropout | None:
    if not any(lane.drop for lane in lanes):
        return None
    rates = torch.tensor([lane.drop for lane in lanes], device=device)
    return BatchDropout(rates, torch.tensor([lane.key for lane in lanes], dtype=torch.int32, device=device))


def _temperature(lanes: Sequence[Lane], device: torch.device) -> Tensor | None:
    if all(lane.temperature == 1 for lane in lanes):
        return None
    return torch.tensor([lane.temperature for lane in lanes], device=device)[:, None, None]
