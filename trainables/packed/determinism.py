"""Test whether a row's last bits depend on the other rows of a batch, on this machine.

They may through the sizes of matrix products, and through attention from a single token.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.pytorch_utils import Conv1D

from trainables.models.loading import Base
from trainables.packed.adapter_stack import AdapterStack, with_lora_update

MIN_LANES = 8  # rows of the smallest batch, and of a block: BLAS computes products of fewer rows differently


@torch.no_grad()
def rows_are_independent(stack: AdapterStack) -> bool:
    """Return whether a row has the same bits in a batch of any size from `MIN_LANES` up, at any place.

    Measured on one linear layer of each kind and size: it depends on the BLAS, the processor and the threads.
    """
    counts = (MIN_LANES, 24, 40, 96, 200)
    return all(
        _is_independent(module, _random_rows(256, stack.base, size), counts)
        for module, size, _ in _linear_modules(stack.base)
    )


@torch.no_grad()
def blocks_are_independent(stack: AdapterStack) -> bool:
    """Return whether blocks of `MIN_LANES` rows, each with its own A and B, have the same bits in any batch."""

    def alone(module: torch.nn.Module, features_in: int, features_out: int) -> bool:
        a, b = _random_rows(stack.max_rank, None, features_in), _random_rows(features_out, None, stack.max_rank)

        def adapted(x: Tensor) -> Tensor:
            blocks = len(x) // MIN_LANES
            a_G, b_G = a.repeat(blocks, 1, 1), b.repeat(blocks, 1, 1)
            return with_lora_update(
                module(x), x.to(a.dtype).view(blocks, MIN_LANES, -1), a_G, b_G, a.new_ones(blocks, 1, 1)
            )

        rows = _random_rows(5 * MIN_LANES, stack.base, features_in)
        return _is_independent(adapted, rows, (MIN_LANES, 3 * MIN_LANES))

    return not stack.max_rank or all(alone(*product) for product in _linear_modules(stack.base))


def _linear_modules(base: Base) -> list[tuple[torch.nn.Module, int, int]]:
    """Return a linear module of each kind and size, with its input and output features.

    GPT-2's Conv1D keeps its weights transposed, and 4-bit layers keep them in another shape.
    """
    found: dict[tuple[type, int, int], torch.nn.Module] = {}
    for name, module in base.model.named_modules():
        if isinstance(module, torch.nn.Linear) and "router" not in name:  # some routers give more than a product
            found[type(module), module.in_features, module.out_features] = module
        elif isinstance(module, Conv1D):
            found[Conv1D, module.nx, module.nf] = module
    return [(module, features_in, features_out) for (_, features_in, features_out), module in found.items()]


def _random_rows(count: int, base: Base | None, features: int) -> Tensor:
    """Return rows of random numbers, equal at every call, in the base's dtype or in float32."""
    rows = torch.randn(count, features, generator=torch.Generator().manual_seed(count))
    return rows if base is None else rows.to(base.device, base.dtype)


def _is_independent(do: Callable[[Tensor], Tensor], rows: Tensor, counts: Sequence[int]) -> bool:
    """Return whether `do` gives every row the same bits in smaller batches and in reversed order."""
    whole = do(rows)
    elsewhere = do(rows.flip(0)).flip(0)
    return torch.equal(whole, elsewhere) and all(torch.equal(do(rows[:count]), whole[:count]) for count in counts)


def single_token_attention(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which attention from one token is deterministic.

    The CPU's fused kernel with several threads gives a row other last bits at another place in the batch.
    """
    fused = device.type != "cpu" or torch.get_num_threads() == 1
    return contextlib.nullcontext() if fused else sdpa_kernel(SDPBackend.MATH)
