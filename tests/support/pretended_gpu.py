"""A second device on a machine without one: tensors that say they are on `cuda`, keep their numbers on the CPU, and
refuse to meet tensors of the CPU as a GPU's do.

It finds in a forward pass, an optimizer step or decoding what a GPU would find at once: a tensor made on the wrong
device, a mask that stayed behind, numpy from a device. It knows nothing of kernels, memory or speed, and in a backward
pass it lets things be, as autograd makes zeros where it thinks the device is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

THERE = torch.device("cuda", 0)
aten = torch.ops.aten
BETWEEN = {aten._to_copy.default, aten.copy_.default}  # the ways from device to device
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}


class There(torch.Tensor):
    """A tensor on the device: a shell whose numbers lie in `inner`."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> There:
        shell = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype, device="cpu"
        )
        shell.inner = inner
        return shell

    @property
    def device(self) -> torch.device:
        return THERE

    is_cuda, is_cpu = property(lambda self: True), property(lambda self: False)

    def __repr__(self) -> str:
        return f"There({self.inner!r})"

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")

    def __array__(self, *_: Any) -> Any:
        return self.numpy()

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def cpu(self) -> torch.Tensor:
        return self.to("cpu")

    def __reduce_ex__(self, protocol: int) -> Any:
        return There, (self.inner.detach(),)

    def __deepcopy__(self, memo: Any) -> There:
        return There(self.inner.detach().clone()).requires_grad_(self.requires_grad)

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, torch.Tensor], *_: Any) -> There:
        return There(parts["inner"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _do(func, args, kwargs or {})


def _there(x: Any) -> Any:
    return There(x) if isinstance(x, torch.Tensor) and not isinstance(x, There) else x


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, There) else x


def _do(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation that at least one of our tensors takes part in, on their numbers; its results are ours."""
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    indexing = func in INDEXING and isinstance(args[0], There)  # which takes indices from the CPU, and nothing else
    looked_at = tree_flatten((args[2:], kwargs))[0] if indexing else tensors
    strangers = [x for x in looked_at if isinstance(x, torch.Tensor) and not isinstance(x, There) and x.ndim]
    backward = torch._C._current_graph_task_id() != -1  # autograd makes its own zeros, on the device that it sees
    if strangers and func not in BETWEEN and not backward:
        shapes = [tuple(x.shape) for x in strangers]
        raise RuntimeError(f"{func}: tensors {shapes} are on the CPU and others on cuda:0: all must be on one device")
    result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if func._schema.is_mutable and isinstance(result, torch.Tensor):
        return args[0]
    return tree_map(_there, result)


class _Devices(TorchFunctionMode):
    """Hears of every call by its Python name, before torch finds that it has no such device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name in ("new_tensor", "one_hot") and isinstance(args[0], There):  # they make tensors where C++ sees it
            return There(func(_inner(args[0]), *args[1:], **kwargs))
        if name != "to" and kwargs.get("device") is None:
            return func(*args, **kwargs)
        said = [*args[1:], kwargs.get("device")] if name == "to" else [kwargs["device"]]
        devices = [x for x in said if isinstance(x, torch.device | str)]
        devices += [x.device for x in said if isinstance(x, torch.Tensor)]
        there = torch.device(devices[0]).type == "cuda" if devices else isinstance(args[0], There)
        plain = [x.dtype if isinstance(x, There) else _here(x) for x in args[1:]]  # what is left of `to(other)`
        result = func(*args[:1], *plain, **{key: _here(value) for key, value in kwargs.items()})
        return result if isinstance(result, There) == there else Move.apply(result, there)


def _here(x: Any) -> Any:
    on_gpu = (isinstance(x, torch.device) and x.type == "cuda") or (isinstance(x, str) and x.startswith("cuda"))
    return torch.device("cpu") if on_gpu else x


class Move(torch.autograd.Function):
    """Between devices, gradients going the other way."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, there: bool) -> torch.Tensor:
        ctx.was = isinstance(x, There)
        return There(x.clone()) if there else x.inner.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        if isinstance(gradient, There) == ctx.was:
            return gradient, None
        return (There(gradient) if ctx.was else gradient.inner), None


@contextmanager
def pretended_gpu(monkeypatch: Any) -> Iterator[torch.device]:
    """Inside, torch has one GPU, without bfloat16."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: False)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: 0)
    monkeypatch.setattr("torch.cuda.synchronize", lambda device: None)
    with _Devices():
        yield THERE
