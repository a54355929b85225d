"""One trial on several devices: every process has a share of the rows, and of the model where it does not fit.

DDP (Li et al. 2020, arXiv 2006.15704) keeps the whole model on each device; FSDP (Zhao et al. 2023, arXiv 2304.11277;
torch's `fully_shard`) a part of every layer. Plain torch, in a process group that somebody else has made (`team.py`).

A loss may mix the rows of a micro-batch in any way, so each process sees the log-probabilities of all rows, its own
with a graph: what is computed is the loss of one process, to rounding.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from trainables.core import Pair, RoundResult, Row
from trainables.models.loading import BaseName, load
from trainables.models.peft_adapters import lora_config
from trainables.training.standalone import StandaloneLearner, with_peft

Strategy = Literal["auto", "ddp", "fsdp"]
MEMORY_SHARE = 0.6  # of a device, for weights, gradients and moments; the rest is activations
TRAINED_BYTES = 12  # of a trained parameter, beside its weight: a gradient and two moments in float32


def open_distributed(
    pair: Pair, seed: int, strategy: Strategy = "auto", halvings: int = 0, *, device: torch.device
) -> DistributedLearner:
    """This process's part of a pair's learner. All processes of the group call it alike.

    `auto` shards what takes more than `MEMORY_SHARE` of a device. `halvings`: start with so many times half as many
    rows at a time. Raises ValueError for 4 bits in shards.
    """
    four_bit = "nf4" in BaseName.parse(pair.base).options
    if four_bit and strategy == "fsdp":
        raise ValueError(f"base {pair.base!r}: 4-bit weights cannot be sharded; use --parallel-strategy ddp")
    gc.collect()  # a model that was sharded is part of a cycle
    torch.cuda.empty_cache()
    base = load(pair.base, device if four_bit else torch.device("cpu"))
    own: Any = pair.learner.build(base, pair.task, seed)
    if not isinstance(
        own, StandaloneLearner
    ):  # a learner that could share its base: PEFT's modules give the same numbers
        own = with_peft(base, lora_config(base, own.adapter), own, seed)
    if strategy == "auto":
        fits = [True] * dist.get_world_size()
        dist.all_gather_object(fits, four_bit or _fits(own.model, device))  # devices may differ
        strategy = "ddp" if all(fits) else "fsdp"
    return DistributedLearner(own, device, strategy, halvings)


class DistributedLearner(StandaloneLearner):
    """A `Learner` whose methods are called in all processes of a group alike; all return the same."""

    def __init__(self, own: StandaloneLearner, device: torch.device, strategy: Strategy, halvings: int = 0) -> None:
        self._rank, self._world, self.strategy = dist.get_rank(), dist.get_world_size(), strategy
        if strategy == "fsdp":
            self._root = _shard(own.model, device, self._world)
        else:
            own.model.to(device)
        super().__init__(own.base, own.model, own.learner, own.seed, own.give_back, own.optim)
        self.device, self.halvings, self._in_step = device, halvings, strategy == "fsdp"
        if strategy != "fsdp":
            self._forward = DistributedDataParallel(own.model, forward_sync_buffers=False)

    def round(self) -> RoundResult:
        return super().round().with_metrics({"devices": self._world})

    def save(self, folder: str) -> None:
        """The first process writes, all help."""
        named = {name: value for name, value in self.model.state_dict().items() if name in self.parameters}
        weights = {name: self._whole(value).cpu() for name, value in named.items()}
        if self._rank == 0:
            self.model.save_pretrained(folder, state_dict=weights)

    def load(self, state: bytes) -> None:
        if self.strategy == "fsdp":
            self._root.reshard()  # after an evaluation it holds what was
        super().load(state)

    def close(self) -> None:
        """A base that was sharded is loaded anew for the next trial."""
        super().close()
        if self.strategy == "fsdp":
            load.cache_clear()
        elif not getattr(self.base.model, "is_quantized", False):
            self.base.model.to("cpu")

    def backward(self, rows: Sequence[Row], micro: int, share: float) -> Tensor:
        """As of one process, from this one's part. The last parts are filled with rows that count for nothing."""
        part = -(-len(rows) // self._world)
        places = range(self._rank * part, (self._rank + 1) * part)
        mine = [rows[i] if i < len(rows) else rows[0] for i in places]
        at_once = max(1, part >> self.halvings)
        spans = [slice(first, first + at_once) for first in range(0, part, at_once)]

        def forward(span: slice) -> list[Tensor]:
            return self._seeded_logprobs(mine[span], micro, places[span.start])

        one = len(spans) == 1
        with nullcontext() if one else torch.no_grad():
            outputs = [output for span in spans for output in forward(span)]
        leaves = [output.detach().requires_grad_() for output in outputs]
        everyone = self._gathered(leaves, rows, part)
        everyone[places.start : places.stop] = leaves[: max(0, len(rows) - places.start)]
        loss = self.learner.loss(everyone, rows)
        # Processes' gradients are averaged, and theirs are to be added.
        scale = self._world * share
        own: Sequence[Tensor] = [torch.zeros_like(leaf) for leaf in leaves]
        if loss.requires_grad:  # else all of its rows count for nothing
            own = torch.autograd.grad(loss * scale, leaves, allow_unused=True, materialize_grads=True)
        for span in spans:
            torch.autograd.backward(outputs if one else forward(span), own[span])
        return loss.detach()

    def _gathered(self, mine: Sequence[Tensor], rows: Sequence[Row], share: int) -> list[Tensor]:
        """The log-probabilities of all rows, without a graph."""
        sizes = [sum(row.labels) for row in rows]
        sizes += [sizes[0]] * (share * self._world - len(rows))
        of_process = [sizes[rank * share : (rank + 1) * share] for rank in range(self._world)]
        padded = torch.cat([*mine]).detach()
        padded = torch.nn.functional.pad(padded, (0, max(map(sum, of_process)) - len(padded)))
        parts = [torch.empty_like(padded) for _ in of_process]
        dist.all_gather(parts, padded)
        split = [part[: sum(own)].split(own) for part, own in zip(parts, of_process, strict=True)]
        return [row for part in split for row in part][: len(rows)]

    def _in_parts(self, do: Callable[[Sequence[Any]], list[Any]], things: Sequence[Any], order: Sequence[int]) -> Any:
        """Each process does every so many-th; all of them as many, as sharded ones go in step."""
        padded = [*order, *([order[0]] * (-len(order) % self._world))]
        found: list[Any] = [None] * self._world
        dist.all_gather_object(found, super()._in_parts(do, things, padded[self._rank :: self._world]))
        return {place: made for part in found for place, made in part.items()}

    def _in_memory(self, do: Any) -> Any:
        """Out of memory ends this process, and with it the group: the others would wait for it (`team.py`)."""
        return do()

    def _whole(self, value: Any) -> Any:
        return value.full_tensor() if isinstance(value, DTensor) else value

    def _kept(self, value: Any) -> Any:
        """The first process's states are taken; the others help."""
        whole = super()._kept(value)
        return whole if self._rank == 0 or not isinstance(whole, Tensor) else None

    def _part(self, value: Tensor, of: Tensor) -> Tensor:
        if not isinstance(of, DTensor):
            return value
        return distribute_tensor(value, of.device_mesh, of.placements, src_data_rank=None)


def _shard(model: Any, device: torch.device, world: int) -> Any:
    """Every decoder layer by itself, and then what is left, around them. On `device` afterwards. Returns the whole."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    mesh = init_device_mesh(device.type, (world,))
    for module in inner.modules():
        if type(module).__name__ in inner._no_split_modules:  # private: tests/e2e/test_private_names.py
            fully_shard(module, mesh=mesh)
    return fully_shard(inner, mesh=mesh)


def _fits(model: Any, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() * TRAINED_BYTES for p in model.parameters() if p.requires_grad)
    return weights + trained < MEMORY_SHARE * torch.cuda.get_device_properties(device).total_memory
