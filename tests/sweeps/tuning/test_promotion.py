"""Trials pause at rungs, and the best of those that got as far go on: a budget by hand, and a real run of Tune."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial

from sweeps.results.records import Status, TrialRecord
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.promotion import Limits, PromotingASHA

ROUNDS, RUNGS = 9, [1, 3, 9]


def history(*scores: float) -> TrialHistory:
    rows = ({"round": number, "score": score, "diverged": False} for number, score in enumerate(scores, 1))
    return TrialHistory(tuple(rows))


def tuned(trial_id: str, pair: str, status: str) -> SimpleNamespace:
    """One of Tune's trials."""
    trial = SimpleNamespace(trial_id=trial_id, status=status, last_result={}, config={"params": TrialParams(pair, {})})
    trial.set_status = lambda status: setattr(trial, "status", status)
    return trial


class Controller:
    """Of Tune's, what the scheduler calls. Its search may go on."""

    search_alg = SimpleNamespace(is_finished=lambda: False)

    def stop_trial(self, trial: Any) -> None:
        trial.status = Trial.TERMINATED


def test_a_trial_that_was_pruned_stays_so_after_a_resume() -> None:
    """Tune's snapshot has it as paused, but its checkpoint is gone, and it is even the best."""
    records = {
        name: TrialRecord(name, place, TrialParams("a", {}), status, history(score))
        for place, (name, status, score) in enumerate(
            (("0", "pruned", 0.9), ("1", "paused", 0.1), ("2", "paused", 0.2))
        )
    }
    trials = [tuned(name, "a", Trial.PENDING) for name in records]
    scheduler = PromotingASHA(RUNGS, 3, lambda: records, Limits(9, at_once=2))
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    assert [trial.status for trial in trials] == [Trial.PAUSED] * 3
    assert scheduler.choose_trial_to_run(Controller()) is None
    assert [trial.status for trial in trials] == [Trial.TERMINATED, Trial.PAUSED, Trial.PAUSED]


def test_a_trial_becomes_hopeless_when_those_to_come_were_of_another_pair() -> None:
    """By hand: of pair `a` two are paused and none runs. With four more to come both may go on; with one, one may."""
    records: dict[str, TrialRecord] = {}
    scheduler = PromotingASHA(RUNGS, 3, lambda: records, Limits(6, at_once=2))

    def comes(pair: str, score: float) -> SimpleNamespace:
        trial = tuned(str(len(records)), pair, Trial.RUNNING)
        records[trial.trial_id] = TrialRecord(trial.trial_id, len(records), TrialParams(pair, {}), "running", history())
        scheduler.on_trial_add(None, trial)
        said = scheduler.on_trial_result(Controller(), trial, {"training_iteration": 1, "score": score})
        trial.status = {"PAUSE": Trial.PAUSED, "STOP": Trial.TERMINATED}.get(said, said)
        records[trial.trial_id] = replace(records[trial.trial_id], status="paused", history=history(score))
        return trial

    worse, better = comes("a", 0.1), comes("a", 0.2)
    assert (worse.status, better.status) == (Trial.PAUSED, Trial.PAUSED)
    for score in (0.4, 0.3, 0.2):
        comes("b", score)
    scheduler.choose_trial_to_run(Controller())
    assert (worse.status, better.status) == (Trial.TERMINATED, Trial.PAUSED)


def test_no_trial_starts_that_the_budget_does_not_cover() -> None:
    """By hand, rungs at rounds 1, 3 and 9: 20 rounds are enough for one trial of 9, one of 3 and eight of 1."""
    records: dict[str, TrialRecord] = {}

    def add(rounds: int, status: Status = "paused", pair: str = "a") -> None:
        number = len(records)
        records[str(number)] = TrialRecord(str(number), number, TrialParams(pair, {}), status, history(*[0.5] * rounds))

    budgeted = PromotingASHA(RUNGS, 3, lambda: records, Limits(99, budget=20))
    for rounds in (9, 3, 1, 1, 1, 1, 1, 1, 1):
        assert not budgeted.is_budget_used()
        add(rounds)
    assert not budgeted.is_budget_used(), "19 rounds are used"
    add(0, "running")
    assert budgeted.is_budget_used(), "the tenth trial has its round to come"
    assert budgeted.may_start() is False
    records.clear()
    add(1, pair="a")
    add(1, pair="b")
    assert not budgeted.is_budget_used(), "each of the two may need 9 rounds, and one more starts"
    add(1, pair="a")
    assert not budgeted.is_budget_used()
    add(1, pair="b")
    assert budgeted.is_budget_used()
    assert not PromotingASHA(RUNGS, 3, lambda: records, Limits(99)).is_budget_used()
