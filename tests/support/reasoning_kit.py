"""Generators of our own in reasoning-gym's registry, with faults that a real one might have."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from reasoning_gym.dataset import ProceduralDataset
from reasoning_gym.factory import DATASETS


@dataclass
class Config:
    different: int = 10_000  # questions, after which they come again in another writing
    seed: int | None = None
    size: int = 500


class Doubles(ProceduralDataset):
    """What is 2 times n?"""

    def __init__(self, config):
        super().__init__(config, config.seed, config.size)

    def __getitem__(self, index):
        again, number = divmod(index, self.config.different)
        question = f"What is 2 times {number}?"
        return {"question": question.upper() if again else question, "answer": str(2 * number), "metadata": {}}


def plant(monkeypatch: pytest.MonkeyPatch, name: str, **methods) -> None:
    """Add a generator like `Doubles` under a name that no other test uses, with other methods."""
    monkeypatch.setitem(DATASETS, name, (type(name, (Doubles,), methods), Config))
