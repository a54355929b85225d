"""A real MLflow server that is killed and comes back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.tracking_kit import FakeTrial, report, runs_of, shared_database, steps, track

os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "300"  # seconds; a busy machine's server is slow, not away
SERVER = "import sys; from mlflow.server import app; app.run('127.0.0.1', int(sys.argv[1]))"


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    return shared_database(tmp_path_factory)


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
