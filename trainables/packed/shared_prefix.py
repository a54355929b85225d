"""Read the tokens with which all prompts of a request begin once per trial and batch, and not once per row.

The cache of a row is then: the prefix, padded on the left, and what follows it, padded on the left again. The attention
mask leaves out both paddings, and positions go on where the prefix ends. The decision to share, and all widths, depend
on a trial's own request alone, as its bits must not depend on its neighbours.

Shapes: R lanes, P columns of the prefix, T columns of what follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from trainables.packed.adapter_stack import AdapterStack
from trainables.packed.batching import Lane, ModelInputs, build_batch, padded_width
from trainables.packed.determinism import MIN_LANES


@dataclass(frozen=True)
class SharedPrefix:
    """The first `tokens` tokens of a request's prompts, and the virtual tokens before them, padded to `columns`.

    `cache`: the columns of the widest prompt of the request, prefix included.
    """

    tokens: int
    columns: int
    cache: int


def shared_prefix(rows: Sequence[Sequence[int]], virtual: int) -> SharedPrefix | None:
    """Return the prefix of a request's rows behind `virtual` virtual tokens; None if to share it saves nothing.

    At least one token of every row is not shared. To read the prefix costs a batch of `MIN_LANES` lanes.
    """
    first, last = min(map(tuple, rows)), max(map(tuple, rows))  # in lexical order: what these two share, all share
    alike = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    tokens = min(next(alike, len(first)), min(len(row) for row in rows) - 1)
    if virtual + tokens < 1:
        return None
    columns = padded_width(virtual + tokens)
    apart = [padded_width(len(row) - tokens) for row in rows]
    saved = sum(padded_width(virtual + len(row)) for row in rows) - sum(apart)
    return SharedPrefix(tokens, columns, columns + max(apart)) if saved > MIN_LANES * columns else None


class PrefixCaches:
    """The keys and values of prefixes: of each width one batch, in which every distinct prefix has a lane."""

    def __init__(self, stack: AdapterStack) -> None:
        self._stack = stack
        self._places: dict[tuple[int, Lane], int] = {}  # (columns, prefix) -> its lane
        self._batches: dict[int, tuple[Tensor, Any]] = {}  # columns -> the attention mask and the cache

    def read(self, columns: int, prefixes: Sequence[Lane]) -> None:
        lanes = -(-len(prefixes) // MIN_LANES) * MIN_LANES
        rows = build_batch(self._stack, prefixes, lanes, columns)
        output = self._stack.run(rows.lanes, None, 1, **rows.inputs, use_cache=True)
        self._places |= {(columns, lane): place for place, lane in enumerate(prefixes)}
        self._batches[columns] = rows.inputs["attention_mask"], output.past_key_values

    def continued(self, prompts: Sequence[tuple[Lane, SharedPrefix]], lanes: int, tokens: int) -> ModelInputs:
        """Return a batch of what follows the prefixes, which have one width, in `tokens` columns."""
        own = [replace(lane, tokens=lane.tokens[shared.tokens :], prompt=0) for lane, shared in prompts]
        rows, columns = build_batch(self._stack, own, lanes, tokens), prompts[0][1].columns
        device = self._stack.base.device
        places = [self._places[columns, _prefix_of(*prompt)] for prompt in prompts]
        index = torch.tensor([*places, *[0] * (lanes - len(own))], device=device)  # idle lanes continue any
        before = [lane.prompt + shared.tokens for lane, shared in prompts] + [0] * (lanes - len(own))
        mask, cache = self._batches[columns]
        expanded = DynamicCache()
        for number, layer in enumerate(cache.layers):
            expanded.update(layer.keys[index], layer.values[index], number)
        inputs: dict[str, Any] = rows.inputs
        inputs["attention_mask"] = torch.cat([mask[index], inputs["attention_mask"]], 1)
        inputs["position_ids"] = inputs["position_ids"] + torch.tensor(before, device=device)[:, None]
        inputs["past_key_values"] = expanded
        return rows


def read_prefixes(stack: AdapterStack, prompts: Iterable[tuple[Lane, SharedPrefix]]) -> PrefixCaches:
    """Read each distinct prefix of these prompts once."""
    caches, by_width = PrefixCaches(stack), dict[int, dict[Lane, None]]()
    for lane, shared in prompts:
        by_width.setdefault(shared.columns, {})[_prefix_of(lane, shared)] = None
    for columns, prefixes in by_width.items():
        caches.read(columns, [*prefixes])
    return caches


def _prefix_of(lane: Lane, shared: SharedPrefix) -> Lane:
    return replace(lane, tokens=lane.tokens[: shared.tokens])
