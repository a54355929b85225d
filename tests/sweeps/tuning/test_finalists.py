"""Finalists from Tune's trials, and the untouched base that they are compared with."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import ray

from sweeps.results.finals import SEEDS, Candidate
from sweeps.results.tables import finalists_parquet
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.finalists import group_by_candidate, measure_bases, measured
from tests.support.device_kit import Asked
from tests.support.knobs import ONE
from tests.support.toys import Letters
from trainables.core import Example, Pair

EXAMPLES = [Example("1 + 1 =", "2", "sum", "a"), Example("1 + 2 =", "3", "sum", "b")]


def ended(candidate, seed, completions, **result):
    job = {"candidate": candidate, "seed": seed}
    last = {"items": [1.0, 0.0], "completions": completions, "score": 0.5, "diverged": False} | result
    return SimpleNamespace(config={"job": job}, status="TERMINATED", last_result=last, checkpoint=f"seed {seed}")


def candidates(count):
    return [Candidate(f"t{i}", f"trial {i}", TrialParams("toy", {}), 2, 0.5) for i in range(count)]


@pytest.mark.parametrize("completions", [[], ["2", "4"]])
def test_finalists_are_written_whether_or_not_their_learner_writes_text(completions):
    trials = [ended(0, seed, completions) for seed in range(1, SEEDS + 1)]
    (final,), checkpoints, lost = group_by_candidate(trials, candidates(1))
    assert (checkpoints, lost) == ({"t0": "seed 1"}, {})
    assert final.completions == ((tuple(completions),) * SEEDS if completions else ())
    assert finalists_parquet([final], EXAMPLES)


def test_a_candidate_that_diverged_with_one_seed_is_lost():
    trials = [ended(i, seed, [], diverged=(i, seed) == (1, 2)) for i in range(2) for seed in range(1, SEEDS + 1)]
    finals, checkpoints, lost = group_by_candidate(trials, candidates(2))
    assert [one.name for one in finals] == ["trial 0"]
    assert checkpoints.keys() == {"t0"}
    assert lost == {"trial 1": "diverged with seed 2"}


def test_a_device_that_does_not_come_is_not_waited_for_without_end(ray_session, capsys):
    sweep = replace(ONE, pairs=(Pair(Asked(), Letters(), "builtin:tiny"),), resources_per_trial={"gpu": 99.0})
    waiting = measure_bases(sweep, {}, None)["knob"]
    assert measured(waiting, 0.5) == {}
    assert "not measured within 0.5 s: `ray status`" in capsys.readouterr().out
    ray.cancel(waiting)
