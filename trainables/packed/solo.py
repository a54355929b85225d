"""A language learner in a host of its own, as a `Learner`. The host has one seat of the size that the learner needs.

With the `shape` of a larger host, its numbers equal those of a seat in that host to the last bit.
"""

from __future__ import annotations

import torch

from trainables.core import Evaluation, LanguageLearner, RoundResult, Split
from trainables.models.loading import Base
from trainables.packed.host import Host
from trainables.packed.specs import Shape


class Solo:
    """Forwards every call to a host with one trial."""

    def __init__(
        self, base: Base, learner: LanguageLearner, seed: int, trial_id: str = "solo", shape: Shape | None = None
    ) -> None:
        adapter = learner.adapter
        own = Shape(1, learner.rows_per_batch, max_rank=adapter.r, max_prompt=adapter.num_virtual_tokens)
        self.host, self._id = Host(base, shape or own), trial_id
        self.host.open(trial_id, learner, seed)

    def round(self) -> RoundResult:
        return self.host.round(self._id)

    def evaluate(self, split: Split = "search") -> Evaluation:
        return self.host.evaluate(self._id, split)

    def state(self) -> bytes:
        return self.host.state(self._id)

    def load(self, state: bytes) -> None:
        self.host.load(self._id, state)

    def save(self, folder: str) -> None:
        self.host.save(self._id, folder)

    def values(self) -> dict[str, torch.Tensor]:
        """Return a copy of the trained parameters by name."""
        return self.host.values(self._id)

    def close(self) -> None:
        """Remove the host's hooks from the base."""
        self.host.shut()
