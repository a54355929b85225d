"""Finalists from Tune's trials, and the untouched base that they are compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from sweeps.results.records import Candidate
from sweeps.results.tables import finalists_parquet
from sweeps.results.trial_params import TrialParams
from sweeps.tuning import confirmation
from sweeps.tuning.confirmation import Finalists, confirm
from sweeps.tuning.finalists import TrialPlaces, answers_of, measure_bases, measured
from tests.support.device_kit import Asked
from tests.support.knobs import ONE
from tests.support.toy_sweep import SWEEP as TOY
from tests.support.toys import Letters
from trainables.core import Example, Pair
from trainables.runtime.trial import ADAPTER_FOLDER, STATE_FILE, FinalistJob

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


def test_a_device_that_does_not_come_is_not_waited_for_without_end(ray_session, capsys):
    sweep = replace(ONE, pairs=(Pair(Asked(), Letters(), "builtin:tiny"),), resources_per_trial={"gpu": 99.0})
    waiting = measure_bases(sweep, {}, None)["knob"]
    assert measured(waiting, 0.5) == {}
    assert "not measured within 0.5 s: `ray status`" in capsys.readouterr().out
    ray.cancel(waiting)


def test_what_finalists_leave_is_what_can_be_wanted(ray_session, tmp_path, monkeypatch):
    """Two seeds of a megabyte are trained, and one is asked further; what a killed driver left goes. Of large states
    only the first seed's adapter stays."""
    left = tmp_path / "finalists/killed/checkpoint_000000"
    left.mkdir(parents=True)
    toy = Candidate("t0", "trial 0", TrialParams("toy", {"quality": 0.5, "bytes": 10**6}), 1, 0.5)

    def trained():
        return Finalists(replace(TOY, rounds=1), TrialPlaces({}, None, 2), tmp_path, {"trial 0": toy})

    def sizes():
        found = (folder / STATE_FILE for folder in tmp_path.glob("finalists/*/checkpoint_*"))
        return sorted(file.stat().st_size for file in found if file.is_file())

    monkeypatch.setattr(confirmation, "go_on", lambda finalists, *_: finalists)
    finalists = confirm(trained(), [], print)
    assert not left.exists()
    assert finalists.extend({"trial 0": (2, 20)})
    assert sizes() == [10**6, 10**6]
    finalists.answers["trial 0"][0] = replace(finalists.answers["trial 0"][0], items=(1.0,) * 10)
    assert finalists.extend({"trial 0": (1, 20)})
    assert len(finalists.answers["trial 0"][0].items) == 20
    assert sizes() == [0, 10**6, 10**6], "asking writes no state again"

    monkeypatch.setattr("sweeps.tuning.finalists.LARGEST_STATE", 1000)
    large = confirm(trained(), [], print)
    assert large.extend({"trial 0": (2, 20)})
    assert [one.state for one in large.answers["trial 0"]] == ["", ""]
    assert sizes() == []
    (adapter,) = tmp_path.glob(f"finalists/*/checkpoint_*/{ADAPTER_FOLDER}")
    assert adapter.parent == Path(large.checkpoints["t0"].path), "the first seed's"
