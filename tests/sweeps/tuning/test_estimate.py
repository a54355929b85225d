"""The probe of --plan is a trial in all that costs time and memory."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from search_spaces.space import Space
from sweeps.spec.sweep import Sweep
from sweeps.tuning.estimate import probe
from tests.support.toys import Digits, Toy, ToyConfig
from trainables.core import Pair


@dataclass(frozen=True)
class LookingConfig(ToyConfig):
    """Says how many devices its process was given by number."""

    name: ClassVar[str] = "looking"

    def build(self, base, task, seed):
        return Looking(self, task)


class Looking(Toy):
    def round(self):
        return replace(super().round(), trainable_parameters=len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")[0]))


@pytest.mark.parametrize(("gpu", "seen"), [(0, 0), (0.5, 1), (1, 1)])
def test_a_probe_sees_no_gpu_where_trials_ask_for_none(monkeypatch, gpu, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    sweep = Sweep(
        "looks", (Pair(LookingConfig(), Digits(), ""),), Space({}), resources_per_trial={"cpu": 1, "gpu": gpu}
    )
    assert probe(sweep, 1)[0]["trainable_parameters"] == seen
