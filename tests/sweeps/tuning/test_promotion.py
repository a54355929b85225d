"""Trials pause at rungs, and the best of those that got as far go on: a budget by hand, and a real run of Tune."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from ray import tune
from ray.tune.experiment import Trial

from search_spaces.space import Space
from sweeps.persistence.study import storage_of
from sweeps.results.records import Status, TrialRecord
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
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


class Watch(tune.Callback):
    """Keeps the records that the scheduler reads, as the recorder does, and how many trials ran at the same time."""

    def __init__(self) -> None:
        self.records: dict[str, TrialRecord] = {}
        self.most = 0

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        new = TrialRecord(trial.trial_id, len(self.records), trial.config["params"], "running")
        self.records.setdefault(trial.trial_id, new)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        old = self.records[trial.trial_id]
        row = {"round": result["training_iteration"], "score": result["score"], "diverged": False}
        self.records[trial.trial_id] = TrialRecord(
            trial.trial_id, old.number, old.params, "running", old.history.with_round(row)
        )

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.most = max(self.most, sum(trial.status == Trial.RUNNING for trial in trials))


class Curve(tune.Trainable):
    """Its score is its `level`, in every round; its state is how many rounds it has run."""

    def setup(self, config: dict[str, Any]) -> None:
        self.ran = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.ran = 0
        return True

    def step(self) -> dict[str, Any]:
        self.ran += 1
        return {"score": self.config["params"].fields["level"], "ran": self.ran}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"ran": self.ran}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.ran = checkpoint["ran"]


MANY = {0.9: 9, 0.8: 3, 0.7: 3} | dict.fromkeys((0.6, 0.5, 0.4, 0.3, 0.2, 0.1), 1)  # level -> rounds
FEW = {0.2: 1, 0.8: 9}  # too few for a third of them: the best goes on when no other can come


@pytest.mark.parametrize("expected", [MANY, FEW], ids=["many", "few"])
def test_in_tune_the_best_of_each_rung_go_on(expected: dict[float, int], tmp_path, ray_session) -> None:
    """The first to arrive pause, and go on when enough others have come; each goes on from its own checkpoint."""
    watch = Watch()
    scheduler = PromotingASHA(RUNGS, 3, lambda: watch.records, Limits(len(expected), at_once=2))
    settings = SearchSettings(
        Space({"level": FloatDistribution(0, 1)}),
        "s",
        seed=0,
        rounds=ROUNDS,
        first=[TrialParams("", {"level": level}) for level in expected],
    )
    ended = tune.run(
        tune.with_resources(Curve, {"cpu": 0.01}),
        metric="score",
        mode="max",
        num_samples=len(expected),
        stop={"training_iteration": ROUNDS},
        search_alg=OptunaSearcher(settings, storage_of(tmp_path), scheduler.may_start),
        scheduler=scheduler,
        reuse_actors=True,
        storage_path=str(tmp_path),
        callbacks=[watch],
        verbose=0,
    )
    last = {trial.config["params"].fields["level"]: trial.last_result for trial in ended.trials}
    rounds = {level: result["training_iteration"] for level, result in last.items()}
    assert rounds == expected
    assert all(result["ran"] == result["training_iteration"] and result["done"] for result in last.values())
    assert watch.most <= 2
    study = optuna.load_study(study_name="s", storage=storage_of(tmp_path))
    states = {trial.params["level"]: trial.state for trial in study.trials}
    complete = {level for level, ran in expected.items() if ran == ROUNDS}
    assert states == {one: TrialState.COMPLETE if one in complete else TrialState.PRUNED for one in expected}
