"""AdamW for a trial with a model of its own, by transformers' names (`optim`): torch's, or QLoRA's paged ones.

bitsandbytes' paged AdamW (Dettmers et al. 2023, arXiv 2305.14314) keeps moments in unified memory, which moves to the
host where a GPU runs short. It does so on CUDA, and for tensors of 100,000 numbers and more; elsewhere, and on a CPU,
the update is the same and nothing is paged: `paged_parameters` says how much is. With 8 bits, the moments of tensors of
4,096 numbers and more are quantized by blocks (Dettmers et al. 2022, arXiv 2110.02861).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from trainables.optimizer import Optimizer

Optim = Literal["paged_adamw_32bit", "paged_adamw_8bit", "adamw_torch"]


def open_adamw(optim: Optim, parameters: Sequence[Tensor], settings: Optimizer) -> Any:
    """Return a `torch.optim.Optimizer` on these parameters."""
    rate, betas, eps, decay = (
        settings.learning_rate,
        (settings.adam_beta1, settings.adam_beta2),
        settings.adam_epsilon,
        settings.weight_decay,
    )
    if optim == "adamw_torch":
        return torch.optim.AdamW(parameters, rate, betas, eps, decay, foreach=True)
    import bitsandbytes

    bits, on_gpu = 8 if optim == "paged_adamw_8bit" else 32, parameters[0].device.type == "cuda"
    return bitsandbytes.optim.AdamW(parameters, rate, betas, eps, decay, optim_bits=bits, is_paged=on_gpu)


def load_optimizer_state(optimizer: Any, state: dict[str, Any]) -> None:
    """Load a state dict into an optimizer, and page its buffers again, which bitsandbytes would not do."""
    optimizer.load_state_dict(state)
    if not getattr(optimizer, "is_paged", False):
        return
    for parameter, own in optimizer.state.items():
        for name in ("state1", "state2"):
            buffer = optimizer.get_state_buffer(parameter, dtype=own[name].dtype)
            own[name] = buffer.copy_(own[name])


def second_moment(state: Mapping[str, Any]) -> Tensor | None:
    """Return a parameter's second moment (with 8 bits: the scales of its blocks); None before the first step."""
    return next((state[name] for name in ("exp_avg_sq", "absmax2", "state2") if name in state), None)


def paged_parameters(optimizer: Any) -> int:
    """Return the number of trained parameters whose moments are in unified memory."""
    if not getattr(optimizer, "is_paged", False):  # loaded moments keep the mark of the optimizer that paged them
        return 0
    return sum(p.numel() for p, own in optimizer.state.items() if getattr(own.get("state1"), "is_paged", False))
