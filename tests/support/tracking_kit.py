"""Shared by the tests of tracking: trials that do not run, a tracker with a store, and readers of that store."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sweeps.results.trial_params import TrialParams
from sweeps.tracking.mlflow_callback import MLflowTracking, TrackedSweep

ROUNDS = 3


@dataclass
class FakeTrial:
    """The attributes of a Tune trial that callbacks read."""

    trial_id: str
    fields: dict[str, Any] = field(default_factory=lambda: {"learning_rate": 0.1})
    status: str = "RUNNING"
    last_result: dict[str, Any] = field(default_factory=dict)
    learner: str = ""
    pickled_error_file: str = ""

    @property
    def config(self) -> dict[str, Any]:
        return {"params": TrialParams(self.learner, self.fields)}


def shared_database(tmp_path_factory) -> str:
    """A store with its tables: making them takes MLflow seconds, so the tests share one and differ by experiment."""
    folder = tmp_path_factory.getbasetemp() / "mlflow"
    folder.mkdir(exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def track(uri, experiment, folder, warnings=None, **more) -> MLflowTracking:
    warn = (warnings if warnings is not None else []).append
    return MLflowTracking(TrackedSweep(experiment, ROUNDS, **more), uri, experiment, folder / "queue", warn)


def report(tracking, trial, round_, score, **more):
    trial.last_result = {"training_iteration": round_, "score": score, "loss": 1 / round_, **more}
    tracking.on_trial_result(0, [], trial, trial.last_result)


def runs_of(uri: str, experiment: str) -> tuple[Any, dict[str, Any]]:
    """The only parent and its children by trial id; fails on duplicates."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], max_results=1000)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run not in parents]
    assert len(parents) == 1, parents
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {parents[0].info.run_id}
    by_id = {run.data.tags["espalier.trial_id"]: run for run in children}
    assert len(by_id) == len(children), children
    return parents[0], by_id


def steps(uri, run, name="score"):
    from mlflow import MlflowClient

    return [(m.step, m.value) for m in MlflowClient(uri).get_metric_history(run.info.run_id, name)]


@contextmanager
def changed_environment(values: dict[str, str]):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
