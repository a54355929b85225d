"""The probe of --plan is a trial in all that costs time and memory."""

from __future__ import annotations

import pytest

from search_spaces.space import Space
from sweeps.resources import base_dtype
from sweeps.spec.sweep import Sweep
from sweeps.tuning import estimate
from sweeps.tuning.estimate import plan, probe
from tests.support.looking import LookingConfig
from tests.support.toys import Digits, Letters
from trainables.core import Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.models import cpu_dtype

COST = {
    "round_s": 1.0,
    "start_s": 1.0,
    "peak_rss": 1.0,
    "checkpoint": 1.0,
    "trainable_parameters": 1.0,
    "measured": "all",
}


@pytest.mark.parametrize(("gpu", "seen"), [(0, 0), (0.5, 1), (1, 1)])
def test_a_probe_sees_no_gpu_where_trials_ask_for_none(monkeypatch, gpu, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    sweep = Sweep(
        "looks", (Pair(LookingConfig(), Digits(), ""),), Space({}), resources_per_trial={"cpu": 1, "gpu": gpu}
    )
    assert probe(sweep, 1)[0]["trainable_parameters"] == seen


def test_a_base_is_probed_in_the_format_that_the_sweep_would_choose(monkeypatch, capsys):
    monkeypatch.setattr(base_dtype, "MEASURED_PARAMETERS", 1_000)
    monkeypatch.setattr(cpu_dtype, "bfloat16_speedup", lambda: 4.0)
    probed = []
    monkeypatch.setattr(estimate, "probe", lambda sweep, threads: probed.append(sweep.pairs[0].base) or [COST])
    pair = Pair(LoraConfig(steps_per_round=1), Letters(size=4), "builtin:tiny")
    plan(Sweep("looks", (pair,), Space({}), num_samples=1, rounds=1, finalists=0, resources_per_trial={"gpu": 0}))
    out = capsys.readouterr().out
    assert "builtin:tiny in bfloat16: bfloat16 products are 4 times as fast as float32's" in out
    assert probed == ["builtin:tiny:bfloat16"]
