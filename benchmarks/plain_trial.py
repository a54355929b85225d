"""`PlainLearner` as a Tune trial: one process each."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.plain_peft import PlainLearner
from trainables.bases import load
from trainables.trial import Trial


class PlainTrial(Trial):
    """Driven as any trial is. Actors are reused, and an actor loads the base once."""

    def _open(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        pair = self._resolve(config)
        self._learner: Any = PlainLearner(load(pair.base), pair, self._seed)
