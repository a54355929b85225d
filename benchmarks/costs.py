"""Counts the operations and the arithmetic of torch code, and measures the fastest arithmetic of a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten
ATTENTION_ON_CPU = {  # torch's own counter leaves these out
    aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda *shapes, **_: sdpa_backward_flop_count(
        *shapes[:4]
    ),
}


@dataclass(frozen=True)
class Cost:
    operations: int  # ATen operations that compute something; backward included
    flops: float  # of products, convolutions and attention; a multiplication with its addition is two


class _Operations(TorchDispatchMode):
    """Counts operations that launch a kernel. Views and memory that is only reserved launch none."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.removeprefix("new_")
        self.count += not (func.is_view or name.startswith(("empty", "_unsafe_view")))
        return func(*args, **(kwargs or {}))


def cost(do: Callable[[], object]) -> Cost:
    with FlopCounterMode(display=False, custom_mapping=ATTENTION_ON_CPU) as arithmetic, _Operations() as launched:
        do()
    return Cost(launched.count, float(arithmetic.get_total_flops()))


def peak_flops(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Return the FLOP/s of a large square matrix product, the fastest of many."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * size**3 / fastest
