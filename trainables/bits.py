"""What a row's last bits depend on, here: the sizes of products, and the attention of one token."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from trainables.stack import Stack, updated

FEWEST_LANES = (
    8  # a batch is not made smaller, and a block has as many: products of fewer rows take other paths in BLAS
)


@torch.no_grad()
def rows_stand_alone(stack: Stack) -> bool:
    """Whether a row of this machine's matrix products has the same bits in a batch of any size from `FEWEST_LANES` up
    and anywhere in it, also where blocks of rows have an A and a B each.

    Tried on the base's own weights, one of each shape, not assumed: it depends on the BLAS, the processor and on how
    many threads there are.
    """
    base, rank = stack.base, stack.max_rank
    shapes = {m.weight.shape: m for m in base.model.modules() if isinstance(m, torch.nn.Linear) and m.weight.ndim == 2}
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(base.device)

    for module in shapes.values():
        rows = some(256, module.in_features).to(base.dtype)
        if not _stand_alone(module, rows, (FEWEST_LANES, 24, 40, 96, 200)):
            return False
        a, b = some(1, rank, module.in_features), some(1, module.out_features, rank)

        def adapted(x: Tensor, module: torch.nn.Module = module, a: Tensor = a, b: Tensor = b) -> Tensor:
            blocks = len(x) // FEWEST_LANES
            return updated(module(x), x, a.repeat(blocks, 1, 1), b.repeat(blocks, 1, 1), a.new_ones(blocks, 1, 1))

        if rank and not _stand_alone(adapted, rows[: 5 * FEWEST_LANES], (FEWEST_LANES, 3 * FEWEST_LANES)):
            return False
    return True


def _stand_alone(do: Callable[[Tensor], Tensor], rows: Tensor, counts: Sequence[int]) -> bool:
    """Whether this gives a row the same bits among the first so many, and in another place."""
    whole = do(rows)
    elsewhere = do(rows.flip(0)).flip(0)
    return torch.equal(whole, elsewhere) and all(torch.equal(do(rows[:count]), whole[:count]) for count in counts)


def attention_from_one_token(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """With several threads, the last bits of the CPU's fused one depend on where in the batch a row stands."""
    fused = device.type != "cpu" or torch.get_num_threads() == 1
    return contextlib.nullcontext() if fused else sdpa_kernel(SDPBackend.MATH)
