"""`PlainLearner` as a Tune trial: one process each."""

from __future__ import annotations

import math
from typing import Any

import torch
from ray import tune

from benchmarks.plain_peft import PlainLearner
from trainables.bases import load


class PlainTrial(tune.Trainable):
    """Actors are reused, and an actor loads the base once."""

    def setup(self, config: dict[str, Any], resolve: Any = None, seed: int = 0) -> None:
        torch.set_num_threads(1)
        self._resolve, self._seed = resolve, seed
        self._open(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._learner.close()
        self._open(new_config)
        return True

    def step(self) -> dict[str, Any]:
        metrics = self._learner.round()
        assert math.isfinite(metrics["loss"])
        evaluation = self._learner.evaluate()
        return {**metrics, "score": evaluation["score"]}

    def _open(self, config: dict[str, Any]) -> None:
        pair = self._resolve(config)
        self._learner = PlainLearner(load(pair.base), pair, self._seed)
