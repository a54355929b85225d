"""Measure whether this CPU multiplies matrices faster in bfloat16 than in float32.

CPUs with AVX512-BF16 or AMX do, by a factor of 3 and more. Others convert every operand, which makes bfloat16 slower:
by a fifth with AVX-512 alone, by a factor of 4 with AVX2.
"""

from __future__ import annotations

import time

import torch

ROWS, FEATURES_IN, FEATURES_OUT = 256, 576, 1536  # eight rows of 32 tokens through an MLP of SmolLM2-135M
REPEATS = 10
FASTER = 2.0  # the least speedup of products that pays: a LoRA step of SmolLM2-135M gains 2 where they gain 4 to 8


@torch.no_grad()
def bfloat16_speedup() -> float:
    """Return how many times as fast bfloat16 matrix products are as float32's, in about a fifth of a second.

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
    finally:
        torch.set_num_threads(threads)
    return fastest[torch.float32] / fastest[torch.bfloat16]
