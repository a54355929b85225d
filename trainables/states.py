"""Pack a learner's state into bytes and read it back. It is data only: no pickle, so reading it never runs code.

The bytes are a safetensors file (https://github.com/huggingface/safetensors): each tensor of the state under a number,
and a JSON tree of all other values as one more tensor of bytes. The file's metadata has the version of this format.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trainables.bad_input import BadInput

FORMAT, VERSION = "espalier_state", "1"
TREE = "tree"  # the tensor with the JSON text
PLAIN = (str, bool, int, float, type(None))
LARGEST_HEADER = 100_000_000  # bytes, as in safetensors


class UnreadableState(BadInput):
    """The bytes are no state, are damaged, or have another version; the message says so in one line."""


def pack(value: Any) -> bytes:
    """Pack tensors, plain values, bytes, and lists, tuples and dictionaries of these. Tensors keep their exact bits.

    Raise TypeError, which names the place, for a value of another type.
    """
    packer = _Packer()
    text = json.dumps(packer.tree(value, "state"))
    return save(packer.tensors | {TREE: _as_tensor(text.encode())}, {FORMAT: VERSION})


def unpack(state: bytes) -> Any:
    """Return what `pack` packed, with tensors on the CPU. Raise UnreadableState for other bytes."""
    _check_header(state[8 : _header_end(state)])
    try:
        tensors = load(state)
        return _value(json.loads(_as_bytes(tensors.pop(TREE))), tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableState(f"the state is damaged ({reason[:160]})") from error


def _header_end(state: bytes) -> int:
    """Return where the tensors begin; the first 8 bytes say so."""
    return 8 + min(int.from_bytes(state[:8], "little"), LARGEST_HEADER)


def _check_header(header: bytes) -> None:
    try:
        version = json.loads(header)["__metadata__"][FORMAT]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableState("it is no state that this version can read, or it is damaged") from error
    if version != VERSION:
        raise UnreadableState(f"its format is version {version!s:.20}, and this code reads version {VERSION}")


class _Packer:
    """Collects the tensors of a state while it makes the tree."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._storages: set[int] = set()

    def tree(self, value: Any, place: str) -> Any:
        """Return the JSON form of a value: plain values are themselves, others a list that begins with their kind."""
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, bytes):
            return ["bytes", self._named(_as_tensor(value))]
        if isinstance(value, Tensor):
            return ["tensor", self._named(self._unshared(value.detach().cpu()))]
        if isinstance(value, dict):
            pairs = [[self.tree(key, place), self.tree(one, f"{place}[{key!r}]")] for key, one in value.items()]
            return ["dict", *pairs]
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return [kind, *(self.tree(one, f"{place}[{i}]") for i, one in enumerate(value))]
        raise TypeError(
            f"{place} is a {type(value).__name__}; a state holds tensors, numbers, texts, bytes, lists, tuples and"
            " dictionaries"
        )

    def _named(self, tensor: Tensor) -> str:
        name = str(len(self.tensors))
        self.tensors[name] = tensor
        return name

    def _unshared(self, tensor: Tensor) -> Tensor:
        """Return the tensor, or a copy if it is not contiguous or shares memory: safetensors refuses these."""
        storage = tensor.untyped_storage().data_ptr()
        if storage in self._storages or not tensor.is_contiguous():
            return tensor.clone(memory_format=torch.contiguous_format)
        self._storages.add(storage)
        return tensor


def _value(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the value of a tree. Raises ValueError, KeyError or TypeError for a tree that `pack` did not make."""
    if not isinstance(tree, list):
        return tree
    kind, *parts = tree
    if kind in ("tensor", "bytes"):
        (name,) = parts
        return tensors[name] if kind == "tensor" else _as_bytes(tensors[name])
    if kind == "dict":
        return {_value(key, tensors): _value(value, tensors) for key, value in parts}
    if kind not in ("list", "tuple"):
        raise ValueError(f"unknown kind {kind!s:.20}")
    values = [_value(part, tensors) for part in parts]
    return values if kind == "list" else tuple(values)


def _as_tensor(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)


def _as_bytes(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()
