"""The adapters of all trials of a host, stacked on one frozen model: LoRA of every rank, and soft prompts.

The parameters of all trials lie in one buffer with one row (slot) per trial, so that an optimizer steps all of them at
once. Slot K, after the K seats, stays zero: lanes without a trial use it. Padding (ranks and prompt tokens that a trial
does not have, modules that it does not adapt) is zero in A and in B: its gradients are exactly zero and it stays zero.

A forward hook on each adapted module adds a trial's update to its rows alone. The model itself is never changed, so
every module that maps (..., in) to (..., out) works: Linear, GPT-2's Conv1D, 4-bit layers.

Shapes: S = K + 1 slots, R lanes in G blocks (of one lane each, except in decoding), T tokens, P = max_prompt,
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
    """A parameter's place in the buffer: columns `start` to `stop`, and its shape in a slot."""

    start: int
    stop: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class BatchDropout:
    """The dropout rate of each lane, and the key from which its mask is computed."""

    rate_R: Tensor
    key_R: Tensor


class AdapterStack:
    """Adapters for `seats` trials, of rank at most `max_rank` and with soft prompts of at most `max_prompt` tokens."""

    def __init__(self, base: Base, seats: int, max_rank: int, max_prompt: int) -> None:
        self.base, self.seats, self.max_prompt = base, seats, max_prompt
        self.max_rank = 2 if max_rank == 1 else max_rank  # BLAS rounds products with a single column differently
        dtype = torch.promote_types(base.dtype, torch.float32)  # as PEFT keeps adapters of a 16-bit base
        self.values = torch.zeros(seats + 1, 0, dtype=dtype, device=base.device)
        self.companions: dict[str, Tensor] = {}  # buffers that keep the shape of `values`, such as moments
        self.parts: dict[str, ParameterSlice] = {}
        self.leaves: dict[str, Tensor] = {}
        self._scale_S = torch.zeros(seats + 1, dtype=dtype, device=base.device)
        self._lanes: Tensor | None = None  # the `lanes` of the current `run`
        self._drop: BatchDropout | None = None
        self._keep = 0
        self._handles: list[Any] = _last_positions_only(base.model, lambda: self._keep)
        self._handles += _one_product_for_logits(base.model)
        if max_prompt:
            self._grow({"prompt": (max_prompt, base.hidden_size)})

    def adapt(self, modules: Mapping[str, tuple[int, int]]) -> None:
        """Add parameters and hooks for these modules, name -> (in, out), unless they have them already."""
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
        """Copy a trial's tensors, without padding, into a slot; the rest of the slot becomes zero."""
        self.values[slot].zero_()
        self._scale_S[slot] = scale
        for name, value in values.items():
            self.view(name)[slot][tuple(slice(n) for n in value.shape)] = value.to(self.values)

    def view(self, name: str, buffer: Tensor | None = None) -> Tensor:
        """Return a parameter of all slots, (S, *shape), as a view of the values or of another buffer."""
        part = self.parts[name]
        return (self.values if buffer is None else buffer)[:, part.start : part.stop].unflatten(1, part.shape)

    def run(self, lanes: Tensor, drop: BatchDropout | None, keep: int, **inputs: Any) -> Any:
        """Run the base's forward pass with the adapters.

        `lanes`: the slot of each row, or of each block of neighbouring rows if there are fewer lanes than rows; A and B
        are copied once per block. Only the last `keep` positions get logits.
        """
        self._lanes, self._drop, self._keep = lanes, drop, keep
        self._scale_G_1_1 = self._scale_S[lanes][:, None, None]
        try:
            return self.base.model(**inputs, logits_to_keep=keep)
        finally:
            self._lanes, self._drop, self._keep = None, None, 0

    def prompts(self, index_R_T: Tensor) -> Tensor:
        """Return the virtual tokens with these indices, slot * max_prompt + place: (R, T) -> (R, T, H)."""
        return torch.nn.functional.embedding(index_R_T, self.leaves["prompt"].flatten(0, 1))

    def remove(self) -> None:
        """Remove all hooks from the base."""
        for handle in self._handles:
            handle.remove()

    def _grow(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Add parameters of these shapes to every buffer. If memory runs out, nothing has changed."""
        parts, end = dict(self.parts), self.values.shape[1]
        for name, shape in shapes.items():
            start, end = end, end + torch.Size(shape).numel()
            parts[name] = ParameterSlice(start, end, shape)
        more = self.values.new_zeros(self.seats + 1, end - self.values.shape[1])
        values = torch.cat([self.values, more], 1)
        companions = {name: torch.cat([buffer, more], 1) for name, buffer in self.companions.items()}
        self.values, self.companions, self.parts = values, companions, parts
        self.leaves = {name: self.view(name).detach().requires_grad_() for name in self.parts}

    def _hook(self, name: str, number: int) -> Callable[..., Tensor | None]:
        def add_update(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if self._lanes is None:
                return None
            a_G = self.leaves[f"{name}.A"].index_select(0, self._lanes)  # (G, r, in)
            b_G = self.leaves[f"{name}.B"].index_select(0, self._lanes)  # (G, out, r)
            x = inputs[0].to(a_G.dtype).reshape(len(a_G), -1, a_G.shape[2])  # some get (rows * tokens, in)
            if self._drop is not None:
                x = x * keep_mask(self._drop.key_R, self._drop.rate_R, number, x)
            return with_lora_update(output, x, a_G, b_G, self._scale_G_1_1)

        return add_update


def with_lora_update(output: Tensor, x_G: Tensor, a_G: Tensor, b_G: Tensor, scale_G_1_1: Tensor) -> Tensor:
    """Add each block's LoRA update to a module's output; shape and dtype stay. `x_G`: the inputs in G blocks."""
    y = output.to(a_G.dtype).reshape(len(a_G), -1, output.shape[-1])
    low = torch.bmm(x_G, a_G.transpose(1, 2)) * scale_G_1_1
    return torch.baddbmm(y, low, b_G.transpose(1, 2)).view(output.shape).to(output.dtype)  # rounded once


def _one_product_for_logits(model: Any) -> list[Any]:
    """Make the inputs of the output layer contiguous; return the hooks.

    The last positions of all rows are a strided view, which torch multiplies row by row. That reads the layer's weights
    once per row. In bfloat16 on a CPU it copies them, too: gigabytes for a vocabulary of 150,000.
    """
    output = model.get_output_embeddings()
    return [] if output is None else [output.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))]


def _last_positions_only(model: Any, keep: Callable[[], int]) -> list[Any]:
    """Give the last layer's MLP only the last `keep()` positions (0: all), as no others get logits; return the hooks.

    Positions do not mix after the last attention, so the other positions can be skipped. MLPs of experts, which return
    more than hidden states, and MLPs that take more inputs (Bloom's adds the residual) are left unchanged.
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
