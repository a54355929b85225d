"""The baseline of `packing.py` as a Tune trial: one process each."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.packing_device import plain
from trainables.models.loading import load
from trainables.runtime.trial import Trial


class PlainTrial(Trial):
    """A Tune trial that trains a PEFT model by itself. Actors are reused, and an actor loads the base once."""

    def _open(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        pair = self._resolve(config["params"])
        self._learner, self._began = plain(load(pair.base), pair, self._seed), 0
