"""What a killed driver has left open in MLflow is closed by the next command, and by nobody while a driver lives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.persistence.lock import driving
from sweeps.tracking.left_open import close_left_open
from sweeps.tracking.mlflow_callback import MLflowTracking, TrackedSweep
from tests.support.tracking_kit import FakeTrial, report, runs_of, shared_database, steps


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    return shared_database(tmp_path_factory)


@pytest.fixture
def left(database, tmp_path, monkeypatch, request) -> Iterator[Path]:
    """The folder of a sweep whose driver was killed in a trial, and had not sent its second round. Its experiment is
    named after the test."""
    name = request.node.name
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    folder, trials = tmp_path / "runs/x", [FakeTrial("a"), FakeTrial("b")]
    tracking = MLflowTracking(TrackedSweep(name, 3), database, name, folder / "mlflow")
    for trial in trials:
        tracking.on_trial_start(0, [], trial)
        report(tracking, trial, 1, 0.5, done=trial.trial_id == "b")
    tracking.on_trial_complete(0, [], trials[1])
    assert tracking.close()
    with (folder / "mlflow/events.jsonl").open("a") as file:
        file.write('{"trial": "a", "at": 9900000000000, "metrics": {"score": 0.6}, "step": 2}\n{"trial": "b", "a')
    return folder


def statuses(database, experiment):
    parent, runs = runs_of(database, experiment)
    return parent.info.status, {name: run.info.status for name, run in runs.items()}


def test_the_next_command_closes_them_once(database, left, capsys, request):
    name = request.node.name
    assert statuses(database, name) == ("RUNNING", {"a": "RUNNING", "b": "KILLED"})
    close_left_open(left)
    assert statuses(database, name) == ("KILLED", {"a": "KILLED", "b": "KILLED"})
    assert capsys.readouterr().err.startswith("told MLflow how ")
    _, runs = runs_of(database, name)
    assert runs["a"].data.tags["ended"] == "interrupted"
    assert steps(database, runs["a"]) == [(1, 0.5), (2, 0.6)], "what it had not sent is sent, too"
    before = (left / "mlflow/events.jsonl").read_bytes()
    close_left_open(left)
    assert (left / "mlflow/events.jsonl").read_bytes() == before
    assert capsys.readouterr().err == ""


def test_an_end_that_was_written_and_not_sent_is_sent(database, left, request):
    """The driver was killed in its last instant, or MLflow was away until its end."""
    name = request.node.name
    content = (left / "mlflow/events.jsonl").read_bytes()
    ends = [{"trial": one, "at": 9900000000001, "status": "KILLED"} for one in ("a", None)]
    lines = content[: content.rfind(b"\n") + 1] + b"".join(json.dumps(one).encode() + b"\n" for one in ends)
    (left / "mlflow/events.jsonl").write_bytes(lines)
    close_left_open(left)
    assert statuses(database, name) == ("KILLED", {"a": "KILLED", "b": "KILLED"})
    assert (left / "mlflow/events.jsonl").read_bytes() == lines, "and nothing is added"


def test_while_a_driver_lives_they_are_its_own(database, left, request):
    before = (left / "mlflow/events.jsonl").read_bytes()
    with driving(left):
        close_left_open(left)
    assert (left / "mlflow/events.jsonl").read_bytes() == before
    assert statuses(database, request.node.name)[0] == "RUNNING"


def test_a_folder_from_somebody_else_makes_no_runs(database, left, monkeypatch):
    """Its sweep is not known to this store, whatever its queue says."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of somebody else")
    close_left_open(left)
    from mlflow import MlflowClient

    assert MlflowClient(database).get_experiment_by_name("of somebody else") is None


@pytest.mark.parametrize("store", ["http://127.0.0.1:9", "sqlite:////nowhere/mlflow.db"])
def test_a_store_that_is_away_is_left_for_later(left, capsys, monkeypatch, store):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    before = (left / "mlflow/events.jsonl").read_bytes()
    close_left_open(left)
    assert (left / "mlflow/events.jsonl").read_bytes().startswith(before[: before.rfind(b"\n")])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", [b"\xff\n", b"[1]\n", b'{"trial": []}\n', b"{}\n"])
def test_a_damaged_queue_keeps_no_command_from_its_work(left, content):
    (left / "mlflow/events.jsonl").write_bytes(content)
    close_left_open(left)
