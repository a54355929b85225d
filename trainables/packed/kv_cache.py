"""Keys and values of a decoding batch: prompts of several widths side by side, with room for the tokens to come.

transformers' own cache is copied as a whole for every token, and holds prompts of one width only.
Shapes: R lanes, H heads, T columns, D size of a head.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from trainables.models.loading import Base


class RoomyLayer(DynamicLayer):
    """A layer's keys and values at the left of buffers that are wide enough for all of a completion."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, taken: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._buffers, self._taken = (keys, values), taken
        self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        new = slice(self._taken, self._taken + key_states.shape[2])
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, new] = states
        self._taken = new.stop
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        keys, values = self._buffers
        self._buffers = (keys[indices], values[indices])
        self._show()

    def _show(self) -> None:
        keys, values = self._buffers
        self.keys, self.values = keys[:, :, : self._taken], values[:, :, : self._taken]


def joins(base: Base) -> bool:
    """Whether a row's cache is its keys and values and nothing else: no sliding window, no state of a recurrence."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=base.model.config).layers)


class Joined:
    """Collects prefilled prompts into one cache of `lanes` lanes: `columns` for prompts, `more` for tokens to come."""

    def __init__(self, lanes: int, columns: int, more: int) -> None:
        self._lanes, self._columns, self._more = lanes, columns, more
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def put(self, places: Tensor, cache: Any) -> None:
        """The first rows of a cache go into these lanes, with zeros at their left."""
        if not self._buffers:
            self._buffers = [(self._room(layer.keys), self._room(layer.values)) for layer in cache.layers]
        for layer, buffers in zip(cache.layers, self._buffers, strict=True):
            for buffer, states in zip(buffers, (layer.keys, layer.values), strict=True):
                buffer[places, :, self._columns - states.shape[2] : self._columns] = states[: len(places)]

    def cache(self) -> DynamicCache:
        """What was put, with zeros in all other lanes."""
        whole = DynamicCache()
        whole.layers = [RoomyLayer(keys, values, self._columns) for keys, values in self._buffers]
        return whole

    def _room(self, like_R_H_T_D: Tensor) -> Tensor:
        _, heads, _, size = like_R_H_T_D.shape
        return like_R_H_T_D.new_zeros(self._lanes, heads, self._columns + self._more, size)
