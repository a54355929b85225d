"""Train one trial on several devices: each process has a part of the rows, and of the model if it does not fit on one.

DDP (Li et al. 2020, arXiv 2006.15704) keeps the whole model on each device; FSDP (Zhao et al. 2023, arXiv 2304.11277;
torch's `fully_shard`) a part of every layer. Plain torch, in a process group that the caller has made
(`worker_group.py`).

A loss may mix the rows of a micro-batch in any way, so each process gets the log-probabilities of all rows, those of
its own rows with a graph. The loss equals that of one process up to rounding.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from trainables.core import Pair, RoundResult, Row
from trainables.models.adapter_config import order_configs
from trainables.models.loading import BaseName, load
from trainables.models.peft_adapters import lora_config
from trainables.training.standalone import StandaloneLearner, with_peft

Strategy = Literal["auto", "ddp", "fsdp"]
MEMORY_SHARE = 0.6  # of a device, for weights, gradients and moments; the rest is activations
TRAINED_BYTES = 12  # of a trained parameter, beside its weight: a gradient and two moments in float32


def open_distributed(
    pair: Pair, seed: int, strategy: Strategy = "auto", halvings: int = 0, *, device: torch.device
) -> DistributedLearner:
    """Open this process's part of a pair's learner. All processes of the group call it with the same arguments.

    `auto` shards a model that takes more than `MEMORY_SHARE` of a device. `halvings`: how often the rows of a forward
    pass are halved from the beginning. Raise ValueError for a 4-bit base in shards.
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
    """A `Learner` whose methods are called in all processes of a group together; all return equal results."""

    def __init__(self, own: StandaloneLearner, device: torch.device, strategy: Strategy, halvings: int = 0) -> None:
        self._rank, self._world, self.strategy = dist.get_rank(), dist.get_world_size(), strategy
        if strategy == "fsdp":
            self._root = _shard(own.model, device, self._world)
        else:
            own.model.to(device)
        super().__init__(own.base, own.model, own.learner, own.seed, own.on_close, own.optim)
        self.device, self.halvings, self._in_step = device, halvings, strategy == "fsdp"
        if strategy != "fsdp":
            self._forward = DistributedDataParallel(own.model, forward_sync_buffers=False)

    def round(self) -> RoundResult:
        return super().round().with_metrics({"devices": self._world})

    def save(self, folder: str) -> None:
        """Gather the weights from all processes, and write them in the first."""
        named = {name: value for name, value in self.model.state_dict().items() if name in self.parameters}
        weights = {name: self._whole(value).cpu() for name, value in named.items()}
        if self._rank == 0:
            self.model.save_pretrained(folder, state_dict=weights)
            order_configs(Path(folder))

    def load(self, state: bytes) -> None:
        if self.strategy == "fsdp":
            self._root.reshard()  # an evaluation leaves it gathered, with the old values
        super().load(state)

    def close(self) -> None:
        """Give the base back; a sharded base is loaded again for the next trial."""
        super().close()
        if self.strategy == "fsdp":
            load.cache_clear()
        elif not getattr(self.base.model, "is_quantized", False):
            self.base.model.to("cpu")

    def backward(self, rows: Sequence[Row], micro: int, share: float) -> Tensor:
        """Compute the gradient of one process's loss from this process's rows; the last parts are filled with rows
        that do not count."""
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
        """Return the log-probabilities of all rows, without a graph."""
        sizes = [sum(row.labels) for row in rows]
        sizes += [sizes[0]] * (share * self._world - len(rows))
        of_process = [sizes[rank * share : (rank + 1) * share] for rank in range(self._world)]
        padded = torch.cat([*mine]).detach()
        padded = torch.nn.functional.pad(padded, (0, max(map(sum, of_process)) - len(padded)))
        parts = [torch.empty_like(padded) for _ in of_process]
        dist.all_gather(parts, padded)
        split = [part[: sum(own)].split(own) for part, own in zip(parts, of_process, strict=True)]
        return [row for part in split for row in part][: len(rows)]

    def _in_parts(self, do: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any], order: Sequence[int]) -> Any:
        """Divide the items among the processes, the same number for each, as sharded processes run in step."""
        padded = [*order, *([order[0]] * (-len(order) % self._world))]
        found: list[Any] = [None] * self._world
        dist.all_gather_object(found, super()._in_parts(do, items, padded[self._rank :: self._world]))
        return {place: made for part in found for place, made in part.items()}

    def _retry_smaller(self, do: Any) -> Any:
        """Do not retry: running out of memory ends the group, as other processes would wait (`worker_group.py`)."""
        return do()

    def _whole(self, value: Any) -> Any:
        return value.full_tensor() if isinstance(value, DTensor) else value

    def _kept(self, value: Any) -> Any:
        """Gather a tensor of a state; only the first process keeps it."""
        whole = super()._kept(value)
        return whole if self._rank == 0 or not isinstance(whole, Tensor) else None

    def _part(self, value: Tensor, of: Tensor) -> Tensor:
        if not isinstance(of, DTensor):
            return value
        return distribute_tensor(value, of.device_mesh, of.placements, src_data_rank=None)


def _shard(model: Any, device: torch.device, world: int) -> Any:
    """Shard every decoder layer, then the rest of the model. Move it to `device`, and return it."""
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
