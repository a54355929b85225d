"""The key-value cache of a decoding batch: prompts of several widths, with preallocated room for their completions.

transformers' own cache is copied as a whole for every token, and holds prompts of one width only.
Shapes: R lanes, H heads, T columns, D size of a head.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from trainables.models.loading import Base


class PreallocatedLayer(DynamicLayer):
    """A layer's keys and values in buffers that are wide enough for the whole completion."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._buffers, self._length = (keys, values), length
        self._update_views()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        new = slice(self._length, self._length + key_states.shape[2])
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, new] = states
        self._length = new.stop
        self._update_views()
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        keys, values = self._buffers
        self._buffers = (keys[indices], values[indices])
        self._update_views()

    def _update_views(self) -> None:
        keys, values = self._buffers
        self.keys, self.values = keys[:, :, : self._length], values[:, :, : self._length]


def can_join_caches(base: Base) -> bool:
    """Return whether the cache holds only keys and values: no sliding window and no recurrent state."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=base.model.config).layers)


class JoinedCache:
    """Joins the caches of prefilled prompts: `lanes` rows with `columns` for the prompt and `more` for new tokens."""

    def __init__(self, lanes: int, columns: int, more: int) -> None:
        self._lanes, self._columns, self._more = lanes, columns, more
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def put(self, places: Tensor, cache: Any, rows: Tensor) -> None:
        """Copy rows of a cache into these lanes, a row for each, padded with zeros on the left."""
        if not self._buffers:
            self._buffers = [(self._new_buffer(layer.keys), self._new_buffer(layer.values)) for layer in cache.layers]
        for layer, buffers in zip(cache.layers, self._buffers, strict=True):
            for buffer, states in zip(buffers, (layer.keys, layer.values), strict=True):
                buffer[places, :, self._columns - states.shape[2] : self._columns] = states[rows]

    def cache(self) -> DynamicCache:
        """Return the joined cache; lanes into which nothing was put are zero."""
        whole = DynamicCache()
        whole.layers = [PreallocatedLayer(keys, values, self._columns) for keys, values in self._buffers]
        return whole

    def _new_buffer(self, like_R_H_T_D: Tensor) -> Tensor:
        _, heads, _, size = like_R_H_T_D.shape
        return like_R_H_T_D.new_zeros(self._lanes, heads, self._columns + self._more, size)
