"""The probe of --plan is a trial in all that costs time and memory."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution

from search_spaces.space import Space
from sweeps.resources import base_dtype
from sweeps.spec.sweep import Sweep
from sweeps.tuning import estimate
from sweeps.tuning.disk_use import checkpoints_at_most
from sweeps.tuning.estimate import plan
from sweeps.tuning.probes import probe
from tests.support.looking import LookingConfig
from tests.support.toys import Digits, Letters, ToyConfig
from trainables.core import Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.models import cpu_dtype

COST = {
    "round_s": 1.0,
    "evaluation_s": 0.5,
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
    assert probe(sweep, 1, 2)[0]["trainable_parameters"] == seen


def test_with_minutes_the_plan_is_a_design(monkeypatch, capsys):
    monkeypatch.setattr(estimate, "probe", lambda sweep, threads, lanes: [COST])
    pair = Pair(LookingConfig(), Digits(), "")
    sweep = Sweep("looks", (pair,), Space({}), num_samples=3, rounds=4, minutes=30.0)
    assert plan(sweep, ["--num-samples", "3"]).hours == pytest.approx(0.5)
    out = capsys.readouterr().out
    assert "design for 30 minutes" in out
    assert "about 3 trials of up to 4 rounds" in out, "given"
    assert "estimate:" not in out


def test_the_plan_says_the_rungs(monkeypatch, capsys):
    monkeypatch.setattr(estimate, "probe", lambda sweep, threads, lanes: [COST])
    pair = Pair(LookingConfig(), Digits(), "")
    plan(Sweep("looks", (pair,), Space({}), num_samples=18, rounds=16, finalists=0))
    out = capsys.readouterr().out
    told = [line.strip() for line in out.splitlines() if "until round" in line]
    assert told == ["until round 2: 18", "until round 6: 6", "until round 16: 2"]
    assert "estimate: 80 rounds" in out, "18 * 2 + 6 * 4 + 2 * 10"


def test_side_by_side_probes_give_their_means():
    """Three processes of a learner that says how many trainings its machine has seen: none shares its memory."""
    sweep = Sweep("looks", (Pair(LookingConfig(), Digits(), ""),), Space({}))
    (alone,), (together,) = probe(sweep, 1, 1), probe(sweep, 1, 3)
    assert together.keys() == alone.keys()
    assert together["measured"] == alone["measured"]
    assert together["trainable_parameters"] == alone["trainable_parameters"]


def test_checkpoints_on_disk_by_hand():
    """Of 60 trials with rungs at 1, 3 and 9, 20 may still be among the best third when 40 are to come, and one more."""
    sweep = Sweep("s", (Pair(LookingConfig(), Digits(), ""),), Space({}), num_samples=60, rounds=9, grace_period=1)
    running, paused = 3 * 4, 2 * 21 + 21
    assert checkpoints_at_most(sweep, running=4, young=30) == running + paused + 1 + 30 + 1
    assert checkpoints_at_most(replace(sweep, grace_period=3), 4, 0) == running + 2 * 21 + 2, "one rung"
    assert checkpoints_at_most(replace(sweep, scheduler="stopping"), 4, 30) == running + 1 + 30 + 1
    assert checkpoints_at_most(replace(sweep, keep=True), 4, 30) == 2 * 60 + 4 + 30 + 1
    assert checkpoints_at_most(sweep, 4, 10**6) == 60 * 9 + 1, "there are no more"
    three = replace(sweep, pairs=3 * sweep.pairs)  # of their shares 36 may be paused, when 24 are to come
    assert checkpoints_at_most(three, 4, 0) == running + 2 * 39 + (60 - 4 - 39) + 2, "and no more than there are"


def test_a_plan_counts_checkpoints_of_the_largest_weights(capsys):
    space = Space({"bytes": CategoricalDistribution((10**8, 1))})
    sweep = Sweep("looks", (Pair(ToyConfig(), Digits(), ""),), space, num_samples=1, rounds=1, finalists=1)
    plan(sweep)
    out = capsys.readouterr().out
    disk, usual, most = (int(one.replace(",", "")) for one in re.findall(r"([\d,]+) MiB(?: of disk| where)", out))
    assert disk == round(2 * 10**8 / 2**20) + 4
    assert (usual, most) == (573, 1909), "6 and 20 trainings, of two configurations"


def test_a_base_is_probed_in_the_format_that_the_sweep_would_choose(monkeypatch, capsys):
    monkeypatch.setattr(base_dtype, "MEASURED_PARAMETERS", 1_000)
    monkeypatch.setattr(cpu_dtype, "bfloat16_speedup", lambda: 4.0)
    probed = []
    monkeypatch.setattr(estimate, "probe", lambda sweep, threads, lanes: probed.append(sweep.pairs[0].base) or [COST])
    pair = Pair(LoraConfig(steps_per_round=1), Letters(size=4), "builtin:tiny")
    plan(Sweep("looks", (pair,), Space({}), num_samples=1, rounds=1, finalists=0, resources_per_trial={"gpu": 0}))
    out = capsys.readouterr().out
    assert "builtin:tiny in bfloat16: bfloat16 is 4 times as fast as float32" in out
    assert probed == ["builtin:tiny:bfloat16"]
