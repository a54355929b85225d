"""The parts of a search in real runs of Ray Tune: promotion from rung to rung, the study, and MLflow's record."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler

from search_spaces.space import Space
from sweeps.persistence.study import storage_of
from sweeps.results.records import TrialRecord
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
from sweeps.tuning.promotion import Limits, PromotingASHA
from tests.support.tracking_kit import runs_of, steps, track

ROUNDS, RUNGS = 9, [1, 3, 9]


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
        tune.with_resources(Curve, {"cpu": 1}),  # a whole one: of parts Ray kept some back afterwards
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


def test_tune_and_asha_leave_the_truth_in_the_study(tmp_path, ray_session) -> None:
    """Sequential trials of known quality: each better one finishes, the two worse ones are stopped at a rung."""

    class Quality(tune.Trainable):
        def setup(self, config: dict) -> None:
            self.reset_config(config)

        def reset_config(self, new_config: dict) -> bool:
            self.x = new_config["params"].fields["x"]
            return True

        def step(self) -> dict:
            if self.x == 0.75:
                return {"score": float("nan"), "diverged": True, "done": True}
            return {"score": self.x * self.iteration}  # 0, x, 2 x

        def save_checkpoint(self, checkpoint_dir: str) -> None: ...

        def load_checkpoint(self, checkpoint: Any) -> None: ...

    order = [0.5, 0.25, 0.75, 0.375, 1.0]
    first = [TrialParams("", {"x": x}) for x in order]
    settings = SearchSettings(Space({"x": FloatDistribution(0, 1)}), "s", seed=0, rounds=3, first=first)
    search = OptunaSearcher(settings, storage_of(tmp_path))
    tune.run(
        Quality,
        name="tune",
        storage_path=str(tmp_path),
        search_alg=search,
        scheduler=AsyncHyperBandScheduler(max_t=3, grace_period=2, reduction_factor=4),
        metric="score",
        mode="max",
        stop={"training_iteration": 3},
        num_samples=len(order),
        max_concurrent_trials=1,
        reuse_actors=True,
        verbose=0,
    )
    study = optuna.load_study(study_name="s", storage=storage_of(tmp_path))
    told = {t.params["x"]: (t.user_attrs["ended"], t.state.name, t.value, t.intermediate_values) for t in study.trials}
    assert told == {
        0.5: ("finished", "COMPLETE", 1.0, {1: 0.0, 2: 0.5, 3: 1.0}),
        0.25: ("pruned", "PRUNED", 0.25, {1: 0.0, 2: 0.25}),
        0.75: ("diverged", "COMPLETE", 0.0, {}),
        0.375: ("pruned", "PRUNED", 0.375, {1: 0.0, 2: 0.375}),
        1.0: ("finished", "COMPLETE", 2.0, {1: 0.0, 2: 1.0, 3: 2.0}),
    }


def toy(config):
    for round_ in range(1, 4):
        tune.report(
            {"score": config["params"].fields["x"] * round_ / 10, "loss": 1.0, "diverged": False, "seconds": 0.1}
        )


def test_mlflow_keeps_what_tune_reports(tmp_path, ray_session):
    database = f"sqlite:///{tmp_path}/mlflow.db"
    tracking = track(database, "real", tmp_path)
    analysis = tune.run(
        toy,
        config={"params": tune.grid_search([TrialParams("", {"x": x}) for x in (3, 2, 1)])},
        metric="score",
        mode="max",
        scheduler=AsyncHyperBandScheduler(time_attr="training_iteration", max_t=3, grace_period=1),
        storage_path=str(tmp_path / "ray"),
        stop={"training_iteration": 3},
        max_concurrent_trials=1,
        callbacks=[tracking],
        verbose=0,
    )
    assert tracking.close()
    parent, runs = runs_of(database, "real")
    assert parent.info.status == "FINISHED"
    assert set(runs) == {trial.trial_id for trial in analysis.trials}
    ended = {run.data.params["x"]: (run.data.tags["ended"], run.info.status) for run in runs.values()}
    assert ended["3"] == ("finished", "FINISHED")
    assert ended["1"] == ("pruned", "KILLED")  # below the best half at the first rung
    first = next(run for run in runs.values() if run.data.params["x"] == "3")
    assert steps(database, first) == [(1, 0.3), (2, 0.6), (3, pytest.approx(0.9))]
    assert set(first.data.metrics) == {"score", "best_score", "loss", "seconds"}
