"""The memory of `efe`: keys and weights of solved tasks, retrieved by similarity of keys.

A task is admitted when enough of its held-out demonstrations were solved exactly, so a threshold of at most 1 can
always be reached. Entries are copies on the CPU. Every choice is deterministic: ties go to the entry that was written
first.

Shapes: D = length of a key, the same for all entries.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.tasks.arc.grids import COLOURS


@dataclass(eq=False)
class MemoryEntry:
    """A solved task."""

    name: str
    key: Tensor  # (D,)
    value: dict[str, Tensor]  # the weights that solved it
    preference: Tensor  # (10,) probabilities of colours
    success: float  # share in [0, 1] of the held-out demonstrations that were solved exactly
    used: int = 0  # times it was retrieved


@dataclass
class Memory:
    """Holds at most `capacity` entries.

    A full memory evicts the entry that was written first ("oldest") or was retrieved least often ("least_used").
    """

    capacity: int
    k: int  # most entries that a retrieval returns
    min_similarity: float = 0.1  # cosine; only entries above it are retrieved
    eviction: Literal["oldest", "least_used"] = "oldest"
    success_threshold: float = 1.0  # in [0, 1]; the least success of an admitted task
    writes: int = field(default=0, init=False)  # entries admitted, replacements among them
    retrievals: int = field(default=0, init=False)  # retrievals that returned an entry
    evictions: int = field(default=0, init=False)
    _entries: dict[str, MemoryEntry] = field(default_factory=dict, init=False, repr=False)  # in the order of writing

    def __post_init__(self) -> None:
        for name in ("capacity", "k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.min_similarity < 1:
            raise ValueError(f"min_similarity is {self.min_similarity}; it must lie in [0, 1)")
        if self.eviction not in ("oldest", "least_used"):
            raise ValueError(f"eviction is {self.eviction!r}; it must be 'oldest' or 'least_used'")
        if not 0 <= self.success_threshold <= 1:
            raise ValueError(f"success_threshold is {self.success_threshold}; it must lie in [0, 1]")

    def __len__(self) -> int:
        return len(self._entries)

    def write(self, name: str, key: Tensor, value: Mapping[str, Tensor], preference: Tensor, success: float) -> bool:
        """Store a task and return True; return False for a success below the threshold or below its own earlier one.

        A replaced entry counts as written anew and keeps its number of uses. Raises ValueError for a key or values
        whose shapes differ from those in memory, a preference that is not (10,), or a success outside [0, 1].
        """
        key, preference = _own(key).float(), _own(preference)
        value = {part: _own(tensor) for part, tensor in value.items()}
        self._check(key, value, preference, success)
        before = self._entries.get(name)
        if success < self.success_threshold or (before and success < before.success):
            return False
        self._entries.pop(name, None)
        self._make_room(self.capacity - 1)
        self._entries[name] = MemoryEntry(name, key, value, preference, success, before.used if before else 0)
        self.writes += 1
        return True

    def retrieve(self, key: Tensor, without: str | None = None) -> list[tuple[float, MemoryEntry]]:
        """Return at most `k` entries whose cosine similarity to `key` (D,) is above `min_similarity`, the most similar
        first, but never the one named `without` (a task must not find itself). Counts as a use of each."""
        others = [entry for entry in self._entries.values() if entry.name != without]
        if not others:
            return []
        similarities = F.cosine_similarity(torch.stack([entry.key for entry in others]), _own(key).float(), dim=1)
        matches = [pair for pair in zip(similarities.tolist(), others, strict=True) if pair[0] > self.min_similarity]
        matches = sorted(matches, key=lambda pair: -pair[0])[: self.k]
        for _, entry in matches:
            entry.used += 1
        self.retrievals += bool(matches)
        return matches

    def mean_preference(self, without: str | None = None) -> Tensor | None:
        """Return the mean preference (10,) of all entries but the one named `without`; None if there are none."""
        preferences = [entry.preference for entry in self._entries.values() if entry.name != without]
        return torch.stack(preferences).mean(0) if preferences else None

    def state(self) -> dict[str, Any]:
        """Return a copy as plain values; later writes and retrievals do not change it."""
        counters = {name: getattr(self, name) for name in ("writes", "retrievals", "evictions")}
        return {"entries": [asdict(entry) for entry in self._entries.values()], **counters}

    def load(self, state: Mapping[str, Any]) -> None:
        """Load the entries and counters of `state`; a smaller memory than the one that wrote it evicts at once."""
        held = copy.deepcopy(dict(state))
        self._entries = {fields["name"]: MemoryEntry(**fields) for fields in held.pop("entries")}
        for name, count in held.items():
            setattr(self, name, count)
        self._make_room(self.capacity)

    def _make_room(self, most: int) -> None:
        while len(self._entries) > most:
            oldest_first = iter(self._entries.values())  # `min` takes the first of equals
            least = min(oldest_first, key=lambda entry: entry.used if self.eviction == "least_used" else 0)
            del self._entries[least.name]
            self.evictions += 1

    def _check(self, key: Tensor, value: dict[str, Tensor], preference: Tensor, success: float) -> None:
        if preference.shape != (COLOURS,):
            raise ValueError(f"the preference has shape {tuple(preference.shape)}; give {COLOURS} probabilities")
        if not 0 <= success <= 1:
            raise ValueError(f"success is {success}; give the share of held-out demonstrations solved, in [0, 1]")
        for other in list(self._entries.values())[:1]:
            given, held = _shapes(key, value), _shapes(other.key, other.value)
            if given != held:
                raise ValueError(f"key and values have shapes {given}, those held {held}; keep a memory per model")


def blend(matches: Sequence[tuple[float, MemoryEntry]]) -> dict[str, Tensor]:
    """Return the mean of the retrieved weights, in proportion to their similarities; {} if there are none.

    A softmax would not do: cosines lie so close together that all entries would get almost equal weights.
    """
    total = sum(similarity for similarity, _ in matches)
    names = matches[0][1].value if matches else ()
    return {
        name: torch.stack([entry.value[name] * (similarity / total) for similarity, entry in matches]).sum(0)
        for name in names
    }


def _own(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()


def _shapes(key: Tensor, value: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in {"key": key, **value}.items()}
