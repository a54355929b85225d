"""Dropout for a model of one trial, with masks that depend only on a row's key and a place, not on the other rows.

A batch that is divided, because memory is short or several processes share its rows, gets the masks of the whole one.
torch draws one mask per batch, so a row's mask would depend on where the batch begins.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from trainables.training.hash_dropout import LEVELS, hashed


class RowDropout(TorchFunctionMode):
    """In this context, dropout and attention dropout of one forward pass take their masks from `key_R`, a key per row.

    The n-th call uses the n-th stream of each key. Rows may be padded on the right, as places are counted from the
    start. Tensors without the same number of places for each row, such as a router's input to an expert, are left to
    torch.
    """

    def __init__(self, key_R: Tensor) -> None:
        super().__init__()
        self._key_R, self._calls = key_R, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is dropout:
            return self._dropped(*args, **(kwargs or {}))
        if func is scaled_dot_product_attention:
            return self._attended(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _dropped(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or not p or len(x) % len(self._key_R):
            return dropout(x, p, training, inplace)
        rows = (
            x.unflatten(0, (len(self._key_R), -1)) if len(x) > len(self._key_R) else x
        )  # some flatten rows and tokens
        return self._masked(rows, p).reshape(x.shape)

    def _attended(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **others: Any,
    ) -> Tensor:
        if not dropout_p:
            return scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **others)
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
        scale = others.get("scale") or query.shape[-1] ** -0.5
        scores_R_H_T_T = (query * scale) @ key.transpose(-2, -1)
        if is_causal:
            attn_mask = torch.ones(scores_R_H_T_T.shape[-2:], dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores_R_H_T_T = scores_R_H_T_T.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            scores_R_H_T_T = scores_R_H_T_T + attn_mask
        return self._masked(scores_R_H_T_T.softmax(-1), dropout_p) @ value

    def _masked(self, x: Tensor, p: float) -> Tensor:
        """Drop inputs (R, ...) with probability p, and scale the others by 1 / (1 - p)."""
        self._calls += 1
        kept = (hashed(self._key_R, self._calls, x.shape[1:]) & (LEVELS - 1)) >= p * LEVELS
        return torch.where(kept, x / max(1 - p, 1 / LEVELS), torch.zeros_like(x))
