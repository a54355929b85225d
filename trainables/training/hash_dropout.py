"""Dropout masks that depend only on a key and a place, not on other rows or on a restart.

A counter-based generator: every number is a hash of (lane's key, module, token counted from the row's end, channel), so
no generator's state is kept and padding on the left moves nothing (`hashed` is for padding on the right). The hash is
the integer finalizer "lowbias32" (Wellons 2018).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = 2**24  # numbers that the hash tells apart: all that float32 holds in [0, 1)


def lane_key(seed: int, step: int, micro_batch: int, row: int) -> int:
    """Return a row's key (31 bits), a hash of the trial's seed, the optimizer step, the micro-batch and the row."""
    return zlib.crc32(f"{seed} {step} {micro_batch} {row}".encode()) >> 1


def keep_mask(key_R: Tensor, rate_R: Tensor, module: int, x_R_T_C: Tensor) -> Tensor:
    """Return (R, T, C): 1 / (1 - rate) for kept inputs and 0 for dropped ones; exactly 1 where the rate is 0."""
    _, tokens, channels = x_R_T_C.shape
    rate = rate_R.to(x_R_T_C.dtype)[:, None, None]
    return (uniform(key_R, module, tokens, channels, x_R_T_C.dtype) >= rate).to(x_R_T_C.dtype) / (1 - rate)


def uniform(key_R: Tensor, module: int, tokens: int, channels: int, dtype: torch.dtype) -> Tensor:
    """Return (R, T, C): numbers in [0, 1) from the stream `module` of each key."""
    from_end_T = torch.arange(tokens - 1, -1, -1, dtype=torch.int32, device=key_R.device)
    place_T_C = from_end_T[:, None] * channels + torch.arange(channels, dtype=torch.int32, device=key_R.device)
    lane_R = mix(key_R.to(torch.int32) ^ mix_number(module))
    return (mix(place_T_C ^ lane_R[:, None, None]) & (LEVELS - 1)).to(dtype) / LEVELS


def hashed(key_R: Tensor, stream: int, shape: Sequence[int]) -> Tensor:
    """Return (R, *shape): 32-bit integers from a stream of each key, hashed from coordinates counted from the start.

    They do not change when padding is added on the right.
    """
    found = mix(key_R.to(torch.int32) ^ mix_number(stream))
    for size in shape:
        found = mix(found[..., None] ^ torch.arange(size, dtype=torch.int32, device=key_R.device))
    return found


def mix(x: Tensor) -> Tensor:
    """Apply a bijection of 32-bit integers that spreads every input bit over all output bits."""
    x = (x ^ _shift(x, 16)) * 0x7FEB352D
    x = (x ^ _shift(x, 15)) * (0x846CA68B - 2**32)
    return x ^ _shift(x, 16)


def mix_number(number: int) -> int:
    """Apply `mix` to one Python integer (signed, 32 bits): a tensor of it would synchronise the GPU."""
    x = number & 0xFFFFFFFF
    x = (x ^ x >> 16) * 0x7FEB352D & 0xFFFFFFFF
    x = (x ^ x >> 15) * 0x846CA68B & 0xFFFFFFFF
    x ^= x >> 16
    return x - 2**32 if x >= 2**31 else x


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right logically; torch's shift keeps the sign."""
    return (x >> bits) & (2 ** (32 - bits) - 1)
