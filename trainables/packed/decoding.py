"""Decoding for all trials of a host at once, greedy or by draws (`models/token_draws.py`).

Rows are padded on the left, so that next tokens stand at the end of every row and logits are computed only there.
If all prompts of a request begin alike (with virtual tokens, or a chat template's system turn), this shared prefix is
read once per batch, and its keys and values are copied to the rows (`shared_prefix.py`).
Shapes: R lanes, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import Any

import torch
from torch import Tensor

from trainables.core import Completion, Draw
from trainables.models.token_draws import TokenDraws
from trainables.packed.adapter_stack import AdapterStack
from trainables.packed.batching import Lane, build_batch, padded_width
from trainables.packed.determinism import MIN_LANES, single_token_attention
from trainables.packed.kv_cache import JoinedCache, can_join_caches
from trainables.packed.shared_prefix import SharedPrefix, read_prefixes, shared_prefix


@dataclass(frozen=True)
class Prompt:
    """A prompt in a lane, to be continued by at most `max_new_tokens` tokens.

    `cache`: the padded width of the widest prompt of the request; all its prompts are decoded in one batch of that
    width. `block`: the number of lanes that share one copy of A and B; 1 for requests that do not fill a block.
    """

    lane: Lane
    padded_width: int
    cache: int
    max_new_tokens: int
    block: int
    shared: SharedPrefix | None = None
    draw: Draw | None = None  # None: greedy

    @property
    def room(self) -> int:
        """The columns of the batch's cache for prompts."""
        return self.shared.cache if self.shared else self.cache

    @property
    def own_width(self) -> int:
        """The padded width of what is not shared."""
        return padded_width(len(self.lane.tokens) - self.shared.tokens) if self.shared else self.padded_width


def decode_prompts(
    slot: int, rows: Sequence[Sequence[int]], virtual: int, max_new_tokens: int, draws: Sequence[Draw] = ()
) -> list[Prompt]:
    """Return the prompts (token ids) of one request of a slot, behind `virtual` virtual tokens. No draws: greedy."""
    widths = [padded_width(virtual + len(tokens)) for tokens in rows]
    block = MIN_LANES if len(rows) >= MIN_LANES else 1
    shared = shared_prefix(rows, virtual) if len(rows) >= MIN_LANES else None
    return [
        Prompt(
            Lane(slot, tuple(tokens), virtual),
            own,
            max(widths),
            max_new_tokens,
            block,
            shared,
            draws[i] if draws else None,
        )
        for i, (tokens, own) in enumerate(zip(rows, widths, strict=True))
    ]


ReportWork = Callable[[Mapping[int, float]], None]  # called with the tokens just computed for each prompt, by its place


@torch.no_grad()
def generate(
    stack: AdapterStack,
    prompts: Sequence[Prompt],
    lanes: int,
    full: bool = False,
    blocks: bool = True,
    spent: ReportWork = lambda work: None,
) -> list[Completion]:
    """Complete prompts, at most `lanes` (at least a block) at a time; return completions in order.

    `full`: batches always have `lanes` lanes, even when few rows are left, and share no prefix. `blocks`: rows of a
    trial may share a copy of its A and B. `spent` is called with the padded width of each prompt's own part after the
    prefill, and with 1 per later token.
    """
    results = [Completion([]) for _ in prompts]
    together = can_join_caches(stack.base)
    if full or not together:
        prompts = [replace(prompt, shared=None) for prompt in prompts]
    groups: dict[tuple[int, int], list[int]] = {}
    for index, prompt in enumerate(prompts):
        block = prompt.block if together and blocks and not full else 1
        groups.setdefault((prompt.room if together else prompt.padded_width, block), []).append(index)
    for (room, block), indices in sorted(groups.items()):
        every, at_once = _blocks(prompts, indices, block), max(1, lanes // block)
        for start in range(0, len(every), at_once):
            chosen = every[start : start + at_once]
            completions = _decode(stack, prompts, chosen, room, block, lanes * full, spent)
            for index, completion in zip(chain(*chosen), completions, strict=True):
                results[index] = completion
    return results


def _blocks(prompts: Sequence[Prompt], indices: Sequence[int], block: int) -> list[list[int]]:
    """Group prompts into blocks of one slot and at most `block` prompts, the narrowest first."""
    order = sorted(indices, key=lambda i: (prompts[i].lane.slot, prompts[i].padded_width))
    slots = [[*own] for _, own in groupby(order, key=lambda i: prompts[i].lane.slot)]
    blocks = [own[first : first + block] for own in slots for first in range(0, len(own), block)]
    return sorted(blocks, key=lambda own: prompts[own[-1]].padded_width)


def _decode(
    stack: AdapterStack,
    everyone: Sequence[Prompt],
    blocks: Sequence[Sequence[int]],
    room: int,
    block: int,
    fixed: int,
    spent: ReportWork,
) -> list[Completion]:
    """Decode one batch with a key-value cache. Once half of its lanes have ended, the batch is compacted.

    `room`: columns of the cache for prompts; `block`: neighbouring lanes that belong to one trial; `fixed`: the number
    of lanes to the end, or 0 for as many as there are rows.
    """
    order = [*chain(*blocks)]
    prompts = [everyone[i] for i in order]
    results = [Completion([]) for _ in prompts]
    at = _prefill(stack, prompts, _lane_owners(blocks, block, fixed), room, block, fixed)
    work: dict[int, float] = {i: prompt.own_width for i, prompt in enumerate(prompts)}
    for count in range(max(p.max_new_tokens for p in prompts)):
        alive = []
        tokens = zip(at.owners, at.next_R.tolist(), at.logprob_R.tolist(), at.entropy_R.tolist(), strict=True)
        spent({order[i]: amount for i, amount in work.items()})
        for lane, (owner, token, logprob, entropy) in enumerate(tokens):
            if owner is None or results[owner].ended or count >= prompts[owner].max_new_tokens:
                continue
            results[owner].logprobs.append(logprob)
            if prompts[owner].draw:
                results[owner].entropies.append(entropy)
            if token == stack.base.eos:
                results[owner].ended = True
                continue
            results[owner].tokens.append(token)
            if count + 1 < prompts[owner].max_new_tokens:
                alive.append(lane)
        if not alive:
            break
        work = dict.fromkeys((owner for lane in alive if (owner := at.owners[lane]) is not None), 1.0)
        if not fixed and _can_compact(at.cache):
            at.compact(alive)
        at.step(stack)
    return results


@dataclass
class _DecodeState:
    """The state of a batch between two tokens.

    `owners`: the prompt of each lane, None for idle lanes; `slots_G`: the slot of each block of `block` lanes.
    """

    block: int
    owners: list[int | None]
    slots_G: Tensor
    mask: Tensor  # (R, T)
    position_R_1: Tensor  # of the last token
    draws: TokenDraws
    next_R: Tensor
    logprob_R: Tensor  # of the next token, nats
    entropy_R: Tensor  # of what it was drawn from, nats; 0 if greedy
    place: int = 0  # of the next token in the completions
    cache: Any = None

    def step(self, stack: AdapterStack) -> None:
        """Append the next token, and compute the one after it."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], 1)
        self.position_R_1 = self.position_R_1 + 1
        if math.isfinite(stack.base.positions):  # rows that have ended are decoded on until the batch is compacted
            self.position_R_1.clamp_(max=int(stack.base.positions) - 1)
        with single_token_attention(stack.base.device):
            output = stack.run(
                self.slots_G,
                None,
                1,
                input_ids=self.next_R[:, None],
                attention_mask=self.mask,
                position_ids=self.position_R_1,
                past_key_values=self.cache,
                use_cache=True,
            )
        self.cache = output.past_key_values
        self.place += 1
        self.next_R, self.logprob_R, self.entropy_R = self.draws.choose(output.logits[:, -1], self.owners, self.place)

    def compact(self, alive: Sequence[int]) -> None:
        """Keep only these lanes, grouped by trial, if that halves the batch."""
        if 2 * len(alive) > len(self.owners):
            return
        slots = self.slots_G.tolist()

        def slot_of(lane: int) -> int:
            return slots[lane // self.block]

        seats = [[*own] for _, own in groupby(sorted(alive, key=slot_of), key=slot_of)]
        order = _filled([lane for own in seats for lane in _filled(own, self.block)], MIN_LANES)
        if 2 * len(order) > len(self.owners):
            return
        lanes = [alive[0] if lane is None else lane for lane in order]  # idle lanes repeat one
        chosen = torch.tensor(lanes, device=self.mask.device)
        self.cache.batch_select_indices(chosen)
        self.mask, self.position_R_1 = self.mask[chosen], self.position_R_1[chosen]
        self.next_R, self.logprob_R, self.entropy_R = (
            one[chosen] for one in (self.next_R, self.logprob_R, self.entropy_R)
        )
        self.slots_G = self.slots_G[chosen[:: self.block] // self.block]
        self.owners = [None if lane is None else self.owners[lane] for lane in order]


def _lane_owners(blocks: Sequence[Sequence[int]], block: int, fixed: int) -> list[int | None]:
    """Return the prompt of each lane: block after block, each filled up with idle lanes (None)."""
    owners: list[int | None] = []
    first = 0
    for own in blocks:
        owners += _filled(range(first, first + len(own)), block)
        first += len(own)
    return _filled(owners, fixed or MIN_LANES)


def _filled(lanes: Sequence[int | None], size: int) -> list[int | None]:
    """Add idle lanes up to the next multiple of `size`."""
    return [*lanes, *[None] * (-len(lanes) % size)]


def _prefill(
    stack: AdapterStack, prompts: Sequence[Prompt], owners: list[int | None], room: int, block: int, fixed: int
) -> _DecodeState:
    """Run the prompts, one width at a time, and join their caches, padded on the left to `room` columns."""
    lanes, device = len(owners), stack.base.device
    at = _DecodeState(
        block,
        owners,
        torch.tensor(
            [stack.seats if one is None else prompts[one].lane.slot for one in owners[::block]], device=device
        ),
        mask=torch.zeros(lanes, room, dtype=torch.long, device=device),
        position_R_1=torch.zeros(lanes, 1, dtype=torch.long, device=device),
        draws=TokenDraws([prompt.draw for prompt in prompts], max(p.max_new_tokens for p in prompts)),
        next_R=torch.zeros(lanes, dtype=torch.long, device=device),
        logprob_R=torch.zeros(lanes, device=device),
        entropy_R=torch.zeros(lanes, device=device),
    )
    at.mask[:, -1] = 1  # an idle lane attends to one column of zeros
    together = JoinedCache(lanes, room, max(p.max_new_tokens for p in prompts)) if can_join_caches(stack.base) else None
    place = {owner: lane for lane, owner in enumerate(owners) if owner is not None}
    prefixes = read_prefixes(stack, [(prompt.lane, prompt.shared) for prompt in prompts if prompt.shared])

    def size_of(i: int) -> tuple[int, int]:
        shared = prompts[i].shared
        return prompts[i].own_width, shared.columns if shared else 0

    for (tokens, columns), group in groupby(sorted(place, key=size_of), key=size_of):
        members = [*group]
        own, copied = _distinct(prompts, members) if together else (members, [*range(len(members))])
        places, of = (torch.tensor(one, device=device) for one in ([place[i] for i in members], copied))
        lanes_now = fixed or _lanes_for(len(own))
        if columns:
            rows = prefixes.continued([(p.lane, p.shared) for i in own if (p := prompts[i]).shared], lanes_now, tokens)
        else:
            rows = build_batch(stack, [prompts[i].lane for i in own], lanes_now, tokens)
        output = stack.run(rows.lanes, None, 1, **rows.inputs, use_cache=True)
        at.mask[places, room - columns - tokens :] = rows.inputs["attention_mask"][of]
        at.position_R_1[places] = rows.inputs["position_ids"][of, -1:]
        chosen = at.draws.choose(output.logits[of, -1], members, 0)
        at.next_R[places], at.logprob_R[places], at.entropy_R[places] = chosen
        if together:
            together.put(places, output.past_key_values, of)
    at.cache = together.cache() if together else output.past_key_values
    return at


def _distinct(prompts: Sequence[Prompt], members: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return a member for each distinct row, and for each member the place of its row among those.

    So completions that are drawn from one prompt are continued from one reading of it.
    """
    first: dict[Lane, int] = {}
    for i in members:
        first.setdefault(prompts[i].lane, i)
    number = {lane: place for place, lane in enumerate(first)}
    return [*first.values()], [number[prompts[i].lane] for i in members]


def _lanes_for(rows: int) -> int:
    """Round up to a multiple of `MIN_LANES`."""
    return -(-rows // MIN_LANES) * MIN_LANES


def _can_compact(cache: Any) -> bool:
    """Some hybrid architectures keep a convolution state that cannot drop rows."""
    return all(hasattr(layer, "batch_select_indices") for layer in getattr(cache, "layers", [None]))
