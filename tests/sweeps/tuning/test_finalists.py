"""Finalists from Tune's trials, and the untouched base that they are compared with."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sweeps.results.records import Candidate
from sweeps.results.tables import finalists_parquet
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.confirmation import Finalists
from sweeps.tuning.finalists import TrialPlaces, answers_of
from tests.support.knobs import ONE
from trainables.core import Example
from trainables.runtime.trial import FinalistJob

EXAMPLES = [Example("1 + 1 =", "2", "sum", "a"), Example("1 + 2 =", "3", "sum", "b")]


def ended(completions=(), **result):
    """A trial of Tune that has ended."""
    seconds = {"train_seconds": 2.0, "evaluation_seconds": 0.5}
    last = {"items": [1.0, 0.0], "completions": completions, "score": 0.5, "diverged": False} | seconds | result
    return SimpleNamespace(status="TERMINATED", last_result=last, checkpoint=None)


def finalists(folder, count):
    chosen = [Candidate(f"t{i}", f"trial {i}", TrialParams("toy", {}), 2, 0.5) for i in range(count)]
    return Finalists(ONE, TrialPlaces({}, None, None), folder, {one.name: one for one in chosen})


def job(name, seed, questions=(0, 2), state=""):
    return FinalistJob(name, TrialParams("toy", {}), 2, ONE.seed + 1 + seed, questions, state)


@pytest.mark.parametrize("completions", [[], ["2", "4"]])
def test_finalists_are_written_whether_or_not_their_learner_writes_text(completions, tmp_path):
    found = finalists(tmp_path, 1)
    for seed in range(3):
        found.keep(job("trial 0", seed), answers_of(ended(completions)))
    (final,) = found.finals()
    assert final.completions == ((tuple(completions),) * 3 if completions else ())
    assert finalists_parquet([final], EXAMPLES)


def test_a_candidate_that_diverged_with_one_seed_is_lost(tmp_path):
    found = finalists(tmp_path, 2)
    for seed in range(3):
        for name in ("trial 0", "trial 1"):
            found.keep(job(name, seed), answers_of(ended(diverged=(name, seed) == ("trial 1", 1))))
    assert [one.name for one in found.finals()] == ["trial 0"]
    assert found.lost == {"trial 1": f"diverged with seed {ONE.seed + 2}"}


def test_further_questions_follow_those_of_their_seed(tmp_path):
    found = finalists(tmp_path, 1)
    for seed in range(2):
        found.keep(job("trial 0", seed), answers_of(ended(["2", "4"])))
    found.keep(job("trial 0", 1, (2, 3), "kept"), answers_of(ended(["5"], items=[0.5], train_seconds=0.0)))
    found.keep(job("trial 0", 0, (2, 3), "kept"), answers_of(ended(["6"], items=[0.0], train_seconds=0.0)))
    (final,) = found.finals()
    assert final.scores.tolist() == [[1.0, 0.0, 0.0], [1.0, 0.0, 0.5]]
    assert final.completions == (("2", "4", "6"), ("2", "4", "5"))
    found.seconds = 12.0  # twice what they took themselves: 2 s of training and 2 x 0.5 s of asking each
    costs = found.costs([])
    assert (costs.train["trial 0"], costs.ask["trial 0"]) == (4.0, pytest.approx(4 / 6))
    assert costs.most_questions == 3, "no state is kept here, so nothing further can be asked"


def test_fewer_questions_than_the_split_has_are_the_first_ones(tmp_path):
    """A sweep with --minutes may ask fewer; clusters and the table of answers have as many then."""
    found = finalists(tmp_path, 1)
    every = ONE.pairs[0].task.test()
    assert found.questions(3) == every[:3]
    assert found.questions(10**6) == every
