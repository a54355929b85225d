"""MLflow tracking on real stores: a database, a server that is killed and comes back, a real Tune run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler

from sweeps.engine.checks import BadInput
from sweeps.engine.events import merge, metrics_of
from sweeps.engine.spool import Spool
from sweeps.engine.store import check_port, public, store_uri, ui_command
from sweeps.engine.tracking import MLflowTracking

os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "300"  # seconds; a busy machine's server is slow, not away
ROUNDS = 3
SERVER = "import sys; from mlflow.server import app; app.run('127.0.0.1', int(sys.argv[1]))"


@dataclass
class FakeTrial:
    """What callbacks read of a Tune trial."""

    trial_id: str
    config: dict[str, Any] = field(default_factory=lambda: {"learning_rate": 0.1})
    status: str = "RUNNING"
    last_result: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    """A store with its tables: making them takes MLflow seconds, so the tests share one and differ by experiment."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def track(uri, experiment, folder, warnings=None, **more) -> MLflowTracking:
    warn = (warnings if warnings is not None else []).append
    return MLflowTracking(experiment, uri, experiment, folder / "spool", ROUNDS, warn=warn, **more)


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
    assert len(parents) == 1
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {parents[0].info.run_id}
    by_id = {run.data.tags["espalier.trial_id"]: run for run in children}
    assert len(by_id) == len(children)
    return parents[0], by_id


def steps(uri, run, name="score"):
    from mlflow import MlflowClient

    return [(m.step, m.value) for m in MlflowClient(uri).get_metric_history(run.info.run_id, name)]


def test_every_end_of_a_trial_is_a_status_and_a_tag(database, tmp_path):
    tags = {"task": "arena", "seed": 3, "commit": "abc"}
    tracking = track(database, "ends", tmp_path, parent_tags=tags, parent_params={"num_samples": 5})
    trials = {name: FakeTrial(name) for name in ("full", "cut", "nan", "bad", "late", "lost")}
    tracking.setup()
    for trial in trials.values():
        tracking.on_trial_start(0, [], trial)
    for round_, score in [(1, 0.2), (2, 0.6), (3, 0.4)]:
        report(tracking, trials["full"], round_, score, done=round_ == 3, items=[1, 0], pid=7, hostname="me")
    report(tracking, trials["cut"], 1, 0.1, done=True)
    report(tracking, trials["nan"], 1, 0.0, done=True, diverged=True, grad_norm=float("nan"))
    report(tracking, trials["late"], 2, 0.3, done=False)
    for name in ("full", "cut", "nan"):
        tracking.on_trial_complete(0, [], trials[name])
        trials[name].status = "TERMINATED"
    tracking.on_trial_error(0, [], trials["bad"])
    trials["late"].status = trials["bad"].status = "TERMINATED"
    tracking.on_experiment_end([trial for name, trial in trials.items() if name != "lost"])
    best = tmp_path / "best"
    best.mkdir()
    (best / "adapter_config.json").write_text("{}")
    tracking.log_winner("full", best)
    assert tracking.close()

    parent, runs = runs_of(database, "ends")
    assert {name: (run.info.status, run.data.tags["ended"]) for name, run in runs.items()} == {
        "full": ("FINISHED", "finished"),
        "cut": ("KILLED", "pruned"),
        "nan": ("FAILED", "diverged"),
        "bad": ("FAILED", "failed"),
        "late": ("KILLED", "interrupted"),
        "lost": ("KILLED", "lost"),
    }
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"num_samples": "5"}
    assert parent.data.tags["best_trial"] == "full"
    full = runs["full"]
    assert full.data.metrics == {"score": 0.4, "best_score": 0.6, "loss": 1 / 3}
    assert full.data.params == {"learning_rate": "0.1"}
    assert {k: full.data.tags[k] for k in tags} == {"task": "arena", "seed": "3", "commit": "abc"}
    assert steps(database, full) == [(1, 0.2), (2, 0.6), (3, 0.4)]
    assert steps(database, full, "best_score") == [(1, 0.2), (2, 0.6), (3, 0.6)]
    artifacts = Path(full.info.artifact_uri.removeprefix("file://"))
    assert (artifacts / "best" / "adapter_config.json").is_file()
    assert artifacts.parents[1] == Path(database.removeprefix("sqlite:///")).parent / "mlartifacts"
    assert tracking.address(5001).endswith(f"http://127.0.0.1:5001/#/experiments/{full.info.experiment_id}")


def test_a_killed_driver_goes_on_with_the_same_runs(database, tmp_path):
    first, trial = track(database, "resumed", tmp_path), FakeTrial("a")
    first.setup()
    first.on_trial_start(0, [], trial)
    report(first, trial, 1, 0.5)
    first.flush()
    report(first, trial, 2, 0.4)  # in the spool; the driver is killed before anything else happens
    assert first.close()
    with (tmp_path / "spool" / "events.jsonl").open("a") as file:
        file.write('{"trial": "a", "at": 17')  # half a line

    again = track(database, "resumed", tmp_path, parent_params={"num_samples": 9})
    again.setup()
    again.on_trial_start(0, [], trial)
    report(again, trial, 2, 0.4)  # from the checkpoint of round 1: the same round once more
    report(again, trial, 3, 0.45, done=True)
    again.on_trial_complete(0, [], trial)
    trial.status = "TERMINATED"
    again.on_experiment_end([trial])
    assert again.close()

    parent, runs = runs_of(database, "resumed")
    assert (parent.info.status, runs["a"].info.status) == ("FINISHED", "FINISHED")
    assert runs["a"].data.tags["restored"] == "True"
    assert steps(database, runs["a"]) == [(1, 0.5), (2, 0.4), (3, 0.45)]
    assert runs["a"].data.metrics["best_score"] == 0.5


def test_events_that_arrive_twice_are_there_once(database, tmp_path):
    tracking, trial = track(database, "twice", tmp_path), FakeTrial("a")
    tracking.on_trial_start(0, [], trial)
    report(tracking, trial, 1, 0.5)
    assert tracking.close()
    (tmp_path / "spool" / "delivered").unlink()  # as if the driver died between the delivery and its mark
    assert track(database, "twice", tmp_path).close()
    _, runs = runs_of(database, "twice")
    assert steps(database, runs["a"]) == [(1, 0.5)]


def test_what_mlflow_refuses_does_not_hold_back_the_rest(database, tmp_path):
    warnings: list[str] = []
    tracking, trial = track(database, "refused", tmp_path, warnings), FakeTrial("a", {"r": 8, "alpha (x)": "y" * 9000})
    tracking.on_trial_start(0, [], trial)
    report(tracking, trial, 1, 0.5, **{f"metric_{i}": i for i in range(250)}, **{"../up": 1.0})
    assert tracking.close()
    _, runs = runs_of(database, "refused")
    assert len(runs["a"].data.metrics) == 250 + 3  # score, loss, best_score
    assert runs["a"].data.params == {"r": "8", "alpha _x_": "y" * 1000}
    assert len(warnings) == 1
    assert "refused '../up'" in warnings[0]


@contextmanager
def server(database: str, port: int):
    """A server process with MLflow's application, ended by SIGKILL."""
    artifacts = str(Path(database.removeprefix("sqlite:///")).parent / "mlartifacts")
    environment = os.environ | {"_MLFLOW_SERVER_FILE_STORE": database, "_MLFLOW_SERVER_ARTIFACT_ROOT": artifacts}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], env=environment, **quiet)
    try:
        while True:
            assert process.poll() is None
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            threading.Event().wait(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def test_a_server_that_is_killed_and_comes_back_gets_everything(database, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri, warnings = f"http://127.0.0.1:{port}", []
    tracking, trials = track(uri, "server", tmp_path, warnings), [FakeTrial(f"t{i}") for i in range(20)]
    assert not tracking.flush()  # nobody is there yet
    with server(database, port):
        tracking.on_trial_start(0, [], trials[0])
        report(tracking, trials[0], 1, 0.1)
        assert tracking.flush()
        assert tracking.address().startswith(f"{uri}/#/experiments/")
    for trial in trials[1:]:
        tracking.on_trial_start(0, [], trial)
    for round_ in (1, 2, 3):
        for trial in trials:
            report(tracking, trial, round_, 0.1 * round_, done=round_ == 3)
    for trial in trials:
        tracking.on_trial_complete(0, [], trial)
        trial.status = "TERMINATED"
    tracking.on_experiment_end(trials)
    assert not tracking.flush()
    assert len(warnings) == 1  # not one per trial, not one per attempt
    assert "cannot be reached" in warnings[0]
    with server(database, port):
        assert tracking.close()
    parent, runs = runs_of(database, "server")
    assert parent.info.status == "FINISHED"
    assert len(runs) == 20
    for run in runs.values():
        assert run.info.status == "FINISHED"
        assert steps(database, run) == [(1, 0.1), (2, 0.2), (3, pytest.approx(0.3))]
    assert len(warnings) == 1


def test_callbacks_do_not_wait_for_a_receiver_that_hangs(tmp_path):
    free, got = threading.Event(), []

    def hang(events):
        free.wait()
        got.extend(events)

    spool = Spool(tmp_path, hang, pytest.fail)
    for i in range(1200):  # all of them return while the first delivery still hangs
        spool.append({"trial": None, "at": i})
    assert not got
    assert not spool.flush(0.0)
    free.set()
    assert spool.close(600.0)
    assert [event["at"] for event in got] == list(range(1200))


def test_a_tracking_that_cannot_write_warns_once_and_never_raises(database, tmp_path):
    warnings: list[str] = []
    tracking = track(database, "full-disk", tmp_path, warnings)
    tracking.close()  # its file is closed: every write fails from now on
    for i in range(3):
        tracking.on_trial_start(0, [], FakeTrial(f"t{i}"))
    tracking.on_trial_result(0, [], FakeTrial("t0"), {})
    assert len(warnings) == 1
    assert "the sweep goes on" in warnings[0]


def toy(config):
    for round_ in range(1, ROUNDS + 1):
        tune.report({"score": config["x"] * round_ / 10, "loss": 1.0, "diverged": False, "seconds": 0.1})


@pytest.mark.usefixtures("ray_session")
def test_a_real_tune_run(database, tmp_path):
    tracking = track(database, "real", tmp_path)
    analysis = tune.run(
        toy,
        config={"x": tune.grid_search([3, 2, 1])},
        metric="score",
        mode="max",
        scheduler=AsyncHyperBandScheduler(time_attr="training_iteration", max_t=ROUNDS, grace_period=1),
        storage_path=str(tmp_path / "ray"),
        stop={"training_iteration": ROUNDS},
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


def test_many_events_become_one_update_per_run():
    events = [
        {"trial": "a", "at": 1, "params": {"r": 8}, "tags": {"x": 1}},
        {"trial": None, "at": 2, "tags": {"y": True}},
        {"trial": "a", "at": 3, "metrics": {"score": 0.5}, "step": 1},
        {"trial": "a", "at": 4, "status": "KILLED", "tags": {"x": 2}},
        {"trial": "a", "at": 5, "status": "RUNNING"},
    ]
    first, second = merge(events)
    assert (first.trial, first.params, first.tags) == ("a", {"r": "8"}, {"x": "2"})
    assert (first.metrics, first.status, first.ended) == ([("score", 0.5, 3, 1)], "RUNNING", 5)
    assert (second.trial, second.tags, second.status) == (None, {"y": "True"}, None)


def test_only_what_the_learner_reported_is_a_metric():
    result = {
        "score": 1,
        "loss": 0.5,
        "diverged": False,
        "items": [1],
        "pid": 3,
        "config": {"r": 8},
        "by": {"kind": 0.2},
    }
    assert metrics_of(result | {"time_total_s": 4.0, "date": "today", "done": True}) == {
        "score": 1.0,
        "loss": 0.5,
        "by/kind": 0.2,
    }


def test_a_taken_port_is_one_line_with_the_remedy():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BadInput, match=f"^port {port} is in use; choose another with --port$"):
            check_port(port)
    check_port(port)
    with pytest.raises(BadInput, match="--port 70000: ports are 1 to 65535"):
        check_port(70000)


def test_for_a_sweep_tags_say_what_ran_and_parameters_carry_their_own_names(database, tmp_path):
    pair = SimpleNamespace(
        learner=SimpleNamespace(name="lora"), task=SimpleNamespace(name="arena"), base="builtin:tiny"
    )
    numbers = {"num_samples": 4, "rounds": ROUNDS, "reduction_factor": 3, "search": "tpe", "seed": 7}
    sweep = SimpleNamespace(
        name="arena-2",
        pairs=(pair,),
        resolve=lambda params: (pair, {"r": params["lora.r"]}),
        effective_grace_period=lambda: 1,
        **numbers,
    )
    facts = {"data_fingerprints": {"arena": "f00d"}, "commit": "abc"}
    environment = {"MLFLOW_TRACKING_URI": database, "MLFLOW_EXPERIMENT_NAME": "for-sweep"}
    with changed_environment(environment):
        tracking = MLflowTracking.for_sweep(sweep, facts, tmp_path)
    tracking.on_trial_start(0, [], FakeTrial("a", {"learner": "lora", "lora.r": 8}))
    assert tracking.close()
    parent, runs = runs_of(database, "for-sweep")
    assert parent.info.run_name == "arena-2"
    assert parent.data.params == {name: str(value) for name, value in numbers.items()} | {"grace_period": "1"}
    assert runs["a"].data.params == {"r": "8"}
    tags = {"learner": "lora", "task": "arena", "base": "builtin:tiny", "seed": "7", "data_fingerprint": "arena: f00d"}
    assert {name: runs["a"].data.tags[name] for name in tags} == tags


@contextmanager
def changed_environment(values: dict[str, str]):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def test_addresses(tmp_path):
    assert public("https://me:secret@host:5000/x") == "https://host:5000/x"
    with changed_environment({"MLFLOW_TRACKING_URI": ""}):
        assert store_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    with changed_environment({"MLFLOW_TRACKING_URI": "./mlruns"}), pytest.raises(BadInput, match="unset it"):
        store_uri(tmp_path)
    command = ui_command("sqlite:////x/mlflow.db", 5001)
    assert command[1:6] == ["-m", "mlflow", "server", "--backend-store-uri", "sqlite:////x/mlflow.db"]
    assert command[6:] == ["--host", "127.0.0.1", "--port", "5001", "--workers", "1"]
    with pytest.raises(BadInput, match="http://host is a server already"):
        ui_command("http://me:secret@host", 5000)


def test_the_spool_is_lines_of_json_that_a_person_can_read(database, tmp_path):
    tracking = track("http://127.0.0.1:9", "away", tmp_path, warnings := [])
    tracking.tag(None, {"note": "kept"})
    assert not tracking.close()
    events = [json.loads(line) for line in (tmp_path / "spool" / "events.jsonl").read_text().splitlines()]
    assert events[1]["tags"] == {"note": "kept"}
    assert "sent when --resume opens it" in warnings[-1]
