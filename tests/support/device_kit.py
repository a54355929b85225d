"""A learner that says which devices it sees, and what trials of it see in a Ray that believes it has a GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import ray

from sweeps.resources.environment import quieten
from sweeps.tuning.finalists import measure_bases, measured
from tests.support.knobs import ONE, Knob
from tests.support.toys import Letters
from trainables.core import Evaluation, Pair, RoundResult


class Device:
    """A learner of its own kind that says which devices it sees."""

    def evaluate(self, split: str = "search") -> Evaluation:
        return Evaluation(0.0, [], metrics={"devices": os.environ.get("CUDA_VISIBLE_DEVICES", "all")})

    def round(self) -> RoundResult:
        return RoundResult(0.0, 0)

    def state(self) -> bytes:
        return b""

    def load(self, state: bytes) -> None:
        pass

    def save(self, folder: str) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Asked(Knob):
    needs_base: ClassVar[bool] = True

    def build(self, base: Any, task: Any, seed: int) -> Device:
        return Device()


def told() -> None:
    quieten()
    ray.init(address="local", num_cpus=1, num_gpus=1, include_dashboard=False, object_store_memory=100_000_000)
    for asked in ({"cpu": 1.0}, {"cpu": 1.0, "gpu": 0.5}):
        sweep = replace(ONE, pairs=(Pair(Asked(), Letters(), "builtin:tiny"),), resources_per_trial=asked)
        print("devices:", measured(measure_bases(sweep, {}, None)["knob"], 300)["devices"] or "none")
    ray.shutdown()
