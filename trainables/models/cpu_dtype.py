"""Measure whether this CPU works faster in bfloat16 than in float32.

CPUs with AVX512-BF16 or AMX multiply matrices faster, by a factor of 3 and more. Others convert every operand, which
makes bfloat16 slower: by a fifth with AVX-512 alone, by a factor of 4 with AVX2. AMX has another kernel for few rows,
so a row's last bits depend on their number; batches are then filled up, and that costs more than AMX gains.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

ROWS, FEATURES_IN, FEATURES_OUT = 256, 576, 1536  # eight rows of 32 tokens through an MLP of SmolLM2-135M
REPEATS = 10
FASTER = 2.0  # the least speedup of products that pays: a LoRA step of SmolLM2-135M gains 2 where they gain 4 to 8
FEW_ROWS = (8, 16, 24, 40, 96)  # of smaller batches, whose rows should have the same bits
FILLED = 4  # how many times as large batches are that are filled up: to the rows of four trials


@torch.no_grad()
def bfloat16_speedup() -> float:
    """Return how many times as fast work in bfloat16 is as in float32, in about a fifth of a second: by matrix
    products, and less where batches must be filled up.

    Both types take turns, and the fastest of `REPEATS` counts, because other processes only make a product slower.
    Uses one thread: the answer depends on the processor's instructions, and threads that wait for a core add noise.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(ROWS, FEATURES_IN, generator=generator)
        weight = torch.randn(FEATURES_OUT, FEATURES_IN, generator=generator)
        operands = {dtype: (x.to(dtype), weight.to(dtype)) for dtype in (torch.float32, torch.bfloat16)}
        for pair in operands.values():
            torch.nn.functional.linear(*pair)  # the first product also prepares kernels
        fastest = dict.fromkeys(operands, float("inf"))
        for _ in range(REPEATS):
            for dtype, pair in operands.items():
                start = time.perf_counter()
                torch.nn.functional.linear(*pair)
                fastest[dtype] = min(fastest[dtype], time.perf_counter() - start)
        alike = rows_alike(weight.bfloat16())
    finally:
        torch.set_num_threads(threads)
    return fastest[torch.float32] / fastest[torch.bfloat16] / (1 if alike else FILLED)


@torch.no_grad()
def rows_alike(weight: Tensor) -> bool:
    """Return whether rows of a product with `weight` (out, in) have the same bits in batches of any size from 8 up."""
    rows = torch.randn(ROWS, weight.shape[1], generator=torch.Generator().manual_seed(0)).to(weight)
    whole = torch.nn.functional.linear(rows, weight)
    return all(torch.equal(torch.nn.functional.linear(rows[:few], weight), whole[:few]) for few in FEW_ROWS)
