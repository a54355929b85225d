"""NEFTune (Jain et al. 2023, arXiv 2310.05914): uniform noise on the embeddings of training rows, against overfitting.

Every number of a row of L tokens and d channels is moved by at most alpha / sqrt(L d), anew at every step. Evaluation
and decoding see no noise. Names as in transformers (`neftune_noise_alpha`), whose L counts padding too; here, as in the
paper's code, it does not, so a row's noise does not depend on the rows beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from trainables.core import Row
from trainables.training.hash_dropout import LEVELS, hashed, uniform

STREAM = zlib.crc32(b"neftune") >> 8  # beside the modules' streams of dropout


def amplitude(alpha: float, tokens: int, hidden: int) -> float:
    """Return the largest change of an embedding's entry, for a row of so many tokens of `hidden` entries."""
    return float(alpha / (tokens * hidden) ** 0.5)


def noised(key_R: Tensor, bound_R: Tensor, x_R_T_H: Tensor) -> Tensor:
    """Add noise up to each row's bound, computed from its key and a token's place; a bound of 0 changes no bit."""
    dtype = torch.promote_types(x_R_T_H.dtype, torch.float32)
    _, tokens, hidden = x_R_T_H.shape
    bound = bound_R.to(dtype)[:, None, None]
    noise = (2 * uniform(key_R, STREAM, tokens, hidden, dtype) - 1) * bound
    return torch.where(bound > 0, x_R_T_H + noise.to(x_R_T_H.dtype), x_R_T_H)


@contextmanager
def noisy(model: Any, rows: Sequence[Row], key_R: Tensor, alpha: float) -> Iterator[None]:
    """In this context, add noise to the embeddings of these rows, padded on the right (for a model of one trial)."""
    if not alpha:
        yield
        return

    def add(module: torch.nn.Module, inputs: tuple[Tensor, ...], x_R_T_H: Tensor) -> Tensor:
        bounds = [amplitude(alpha, len(row.tokens), x_R_T_H.shape[-1]) for row in rows]
        dtype = torch.promote_types(x_R_T_H.dtype, torch.float32)
        bound = torch.tensor(bounds, device=x_R_T_H.device, dtype=dtype)[:, None, None]
        uniform_R_T_H = (hashed(key_R, STREAM, x_R_T_H.shape[1:]) & (LEVELS - 1)).to(dtype) / LEVELS
        return x_R_T_H + ((2 * uniform_R_T_H - 1) * bound).to(x_R_T_H.dtype)

    handle = model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
