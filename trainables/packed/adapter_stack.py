"""The adapters of all seats of a host, stacked on one frozen model: LoRA of every rank, and soft prompts.

Parameters of all seats lie in one buffer, a row per slot, so that an optimizer steps all of them at once. Slot K, after
the K seats, stays zero: lanes without a trial use it. Pads (ranks and prompt tokens that a seat does not have, modules
that it does not adapt) are zero in A and in B, so their gradients are exactly zero and they stay zero.

A forward hook beside each adapted module adds its seat's update to the rows of that seat alone; the model itself is
never changed, so every module type that maps (..., in) to (..., out) works: Linear, GPT-2's Conv1D, 4-bit layers.

Shapes: S = K + 1 slots, R lanes in G blocks (of one lane each, but in decoding), T tokens, P = max_prompt,
H hidden size, N parameters of a slot.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainables.models.loading import Base
from trainables.training.hash_dropout import keep_mask


@dataclass(frozen=True)
class ParameterSlice:
    """Where a parameter lies in the buffer: columns `start` to `stop`, in this shape per slot."""

    start: int
    stop: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class BatchDropout:
    """Dropout of a batch: `rate_R` per lane, and the key that decides which of a lane's inputs are dropped."""

    rate_R: Tensor
    key_R: Tensor


class AdapterStack:
    """Stacked adapters for `seats` trials of rank at most `max_rank` and prompts of at most `max_prompt` tokens."""

    def __init__(self, base: Base, seats: int, max_rank: int, max_prompt: int) -> None:
        self.base, self.seats, self.max_prompt = base, seats, max_prompt
        self.max_rank = 2 if max_rank == 1 else max_rank  # a product with one column has other bits when it is alone
        dtype = torch.promote_types(base.dtype, torch.float32)  # as PEFT keeps adapters of a 16-bit base
        self.values = torch.zeros(seats + 1, 0, dtype=dtype, device=base.device)
        self.beside: dict[str, Tensor] = {}  # buffers of the values' shape, as an optimizer's, that grow with them
        self.parts: dict[str, ParameterSlice] = {}
        self.leaves: dict[str, Tensor] = {}
        self._scale_S = torch.zeros(seats + 1, dtype=dtype, device=base.device)
        self._lanes: Tensor | None = None  # the slots of the batch in the model now, as `run` is told them
        self._drop: BatchDropout | None = None
        self._keep = 0
        self._handles: list[Any] = _last_positions_only(base.model, lambda: self._keep)
        if max_prompt:
            self._grow({"prompt": (max_prompt, base.hidden_size)})

    def adapt(self, modules: Mapping[str, tuple[int, int]]) -> None:
        """Make room beside these modules, name -> (in, out)."""
        model = dict(self.base.model.named_modules())
        new = {name: sizes for name, sizes in modules.items() if f"{name}.A" not in self.parts}
        shapes: dict[str, tuple[int, ...]] = {}
        for name, (features_in, features_out) in new.items():
            shapes |= {f"{name}.A": (self.max_rank, features_in), f"{name}.B": (features_out, self.max_rank)}
        self._grow(shapes)
        for name in new:
            hook = model[name].register_forward_hook(self._hook(name, zlib.crc32(name.encode()) >> 8))
            self._handles.append(hook)

    def fill(self, slot: int, values: Mapping[str, Tensor], scale: float) -> None:
        """Put a trial's own tensors, without pads, into a slot; all else of the slot becomes zero."""
        self.values[slot].zero_()
        self._scale_S[slot] = scale
        for name, value in values.items():
            self.view(name)[slot][tuple(slice(n) for n in value.shape)] = value.to(self.values)

    def view(self, name: str, buffer: Tensor | None = None) -> Tensor:
        """A parameter of all slots, (S, *shape), sharing memory with the buffer (or with one of its shape)."""
        part = self.parts[name]
        return (self.values if buffer is None else buffer)[:, part.start : part.stop].unflatten(1, part.shape)

    def run(self, lanes: Tensor, drop: BatchDropout | None, keep: int, **inputs: Any) -> Any:
        """The base's forward pass with the adapters on: `lanes` says which slot each row belongs to, or, if they are
        fewer than the rows, each block of as many neighbouring rows: A and B are copied once a block.

        Only the last `keep` positions get logits, and whatever does not reach them may be left out.
        """
        self._lanes, self._drop, self._keep = lanes, drop, keep
        self._scale_G_1_1 = self._scale_S[lanes][:, None, None]
        try:
            return self.base.model(**inputs, logits_to_keep=keep)
        finally:
            self._lanes, self._drop, self._keep = None, None, 0

    def prompts(self, index_R_T: Tensor) -> Tensor:
        """Virtual tokens by their number in the stack, slot * max_prompt + place: (R, T) -> (R, T, H)."""
        return torch.nn.functional.embedding(index_R_T, self.leaves["prompt"].flatten(0, 1))

    def remove(self) -> None:
        """Take every hook off the base."""
        for handle in self._handles:
            handle.remove()

    def _grow(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Room for parameters of these shapes in every buffer, or, where memory runs out, nothing that has changed."""
        parts, end = dict(self.parts), self.values.shape[1]
        for name, shape in shapes.items():
            start, end = end, end + torch.Size(shape).numel()
            parts[name] = ParameterSlice(start, end, shape)
        more = self.values.new_zeros(self.seats + 1, end - self.values.shape[1])
        values = torch.cat([self.values, more], 1)
        beside = {name: torch.cat([buffer, more], 1) for name, buffer in self.beside.items()}
        self.values, self.beside, self.parts = values, beside, parts
        self.leaves = {name: self.view(name).detach().requires_grad_() for name in self.parts}

    def _hook(self, name: str, number: int) -> Callable[..., Tensor | None]:
        def add_update(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if self._lanes is None:
                return None
            a_G = self.leaves[f"{name}.A"].index_select(0, self._lanes)  # (G, r, in)
            b_G = self.leaves[f"{name}.B"].index_select(0, self._lanes)  # (G, out, r)
            x = inputs[0].to(a_G.dtype).reshape(len(a_G), -1, a_G.shape[2])  # some modules see rows and tokens as one
            if self._drop is not None:
                x = x * keep_mask(self._drop.key_R, self._drop.rate_R, number, x)
            return with_lora_update(output, x, a_G, b_G, self._scale_G_1_1)

        return add_update


def with_lora_update(output: Tensor, x_G: Tensor, a_G: Tensor, b_G: Tensor, scale_G_1_1: Tensor) -> Tensor:
    """A module's output, of inputs that are cut in G blocks, and what each block's A and B add to it; shape and dtype
    stay."""
    y = output.to(a_G.dtype).reshape(len(a_G), -1, output.shape[-1])
    low = torch.bmm(x_G, a_G.transpose(1, 2)) * scale_G_1_1
    return torch.baddbmm(y, low, b_G.transpose(1, 2)).view(output.shape).to(output.dtype)  # rounded once


def _last_positions_only(model: Any, keep: Callable[[], int]) -> list[Any]:
    """Let the last layer's MLP see only the last `keep()` positions (0: all), as no others get logits; its hooks.

    Behind the last attention nothing mixes positions, so what becomes of the others does not matter. Left alone are
    experts, which return more than hidden states, and what takes more than these (Bloom's, which adds the residual).
    """
    lists = [m for m in model.get_decoder().children() if isinstance(m, torch.nn.ModuleList)]
    mlp = getattr(lists[0][-1], "mlp", None) if lists else None
    if mlp is None or any("expert" in name for name, _ in mlp.named_modules()):
        return []
    if len(inspect.signature(mlp.forward).parameters) > 1:
        return []
    left_out = 0

    def cut(module: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        nonlocal left_out
        (hidden_R_T_H,) = inputs
        left_out = hidden_R_T_H.shape[1] - (keep() or hidden_R_T_H.shape[1])
        return (hidden_R_T_H[:, left_out:].contiguous(),)

    def fill(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.nn.functional.pad(output, (0, 0, left_out, 0)) if left_out else output

    return [mlp.register_forward_pre_hook(cut), mlp.register_forward_hook(fill)]
