"""What a row's last bits depend on, here: the sizes of products, and the attention of one token."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.pytorch_utils import Conv1D

from trainables.models.loading import Base
from trainables.packed.adapter_stack import Stack, updated

FEWEST_LANES = 8  # of a batch, and all that a block has: products of fewer rows take other paths in BLAS


@torch.no_grad()
def rows_stand_alone(stack: Stack) -> bool:
    """Whether a row of the base's products has the same bits in a batch of any size from `FEWEST_LANES` up and anywhere
    in it. Tried on one of each kind and size, not assumed: it depends on the BLAS, the processor and the threads."""
    counts = (FEWEST_LANES, 24, 40, 96, 200)
    return all(_stand_alone(module, _rows(256, stack.base, size), counts) for module, size, _ in _products(stack.base))


@torch.no_grad()
def blocks_stand_alone(stack: Stack) -> bool:
    """The same of blocks of `FEWEST_LANES` rows that have an A and a B each, beside any of the base's products."""

    def alone(module: torch.nn.Module, features_in: int, features_out: int) -> bool:
        a, b = _rows(stack.max_rank, None, features_in), _rows(features_out, None, stack.max_rank)

        def adapted(x: Tensor) -> Tensor:
            blocks = len(x) // FEWEST_LANES
            a_G, b_G = a.repeat(blocks, 1, 1), b.repeat(blocks, 1, 1)
            return updated(module(x), x.to(a.dtype).view(blocks, FEWEST_LANES, -1), a_G, b_G, a.new_ones(blocks, 1, 1))

        rows = _rows(5 * FEWEST_LANES, stack.base, features_in)
        return _stand_alone(adapted, rows, (FEWEST_LANES, 3 * FEWEST_LANES))

    return not stack.max_rank or all(alone(*product) for product in _products(stack.base))


def _products(base: Base) -> list[tuple[torch.nn.Module, int, int]]:
    """A module of each kind and size of product, with its numbers of features in and out: GPT-2's keep their weights
    transposed, and those in 4 bits in another shape."""
    found: dict[tuple[type, int, int], torch.nn.Module] = {}
    for module in base.model.modules():
        if isinstance(module, torch.nn.Linear):
            found[type(module), module.in_features, module.out_features] = module
        elif isinstance(module, Conv1D):
            found[Conv1D, module.nx, module.nf] = module
    return [(module, features_in, features_out) for (_, features_in, features_out), module in found.items()]


def _rows(count: int, base: Base | None, features: int) -> Tensor:
    """Of random numbers, the same at every call; in the base's dtype, or float32."""
    rows = torch.randn(count, features, generator=torch.Generator().manual_seed(count))
    return rows if base is None else rows.to(base.device, base.dtype)


def _stand_alone(do: Callable[[Tensor], Tensor], rows: Tensor, counts: Sequence[int]) -> bool:
    """Whether this gives a row the same bits among the first so many, and in another place."""
    whole = do(rows)
    elsewhere = do(rows.flip(0)).flip(0)
    return torch.equal(whole, elsewhere) and all(torch.equal(do(rows[:count]), whole[:count]) for count in counts)


def attention_from_one_token(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """With several threads, the last bits of the CPU's fused one depend on where in the batch a row stands."""
    fused = device.type != "cpu" or torch.get_num_threads() == 1
    return contextlib.nullcontext() if fused else sdpa_kernel(SDPBackend.MATH)
