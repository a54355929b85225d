"""One cheap sweep that is killed in every phase, ended by a signal in every phase, or loses whoever reads its output:
it ends with the trials of one that was left alone."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sweeps.results.run_folder import Run
from sweeps.tracking.mlflow_store import ENVIRONMENT
from tests.support.driving import SCRIPT, command_here, environment, mlflow_runs, rays_of, rounds_in, wait_for
from tests.support.ports import answers, free_port

TRIALS, ROUNDS = 2, 4
FLAGS = ["--num-samples", f"{TRIALS}", "--grace-period", f"{ROUNDS}", "--finalists", "1", "--name", "toy"]
PHASES = ["before the first trial", "search", "between", "finalists", "report"]


class Driver:
    """A driver in a session of its own, with what it has said. `reaches` waits for a phase of it."""

    def __init__(self, folder: Path, *more: str, **popen: Any) -> None:
        self.log, self._out = folder / "rounds.log", folder / f"out-{len([*folder.glob('out-*')])}"
        self._rounds, fixed = rounds_in(self.log), ["planted=nothing", "quality=0.9", "seconds=0.3", f"log={self.log}"]
        with self._out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), *FLAGS, "--set", *fixed, *more], cwd=folder, start_new_session=True,
                **{"env": environment(), "stdout": out, "stderr": subprocess.STDOUT} | popen,
            )  # fmt: skip

    def said(self) -> str:
        return self._out.read_text()

    def reaches(self, phase: str) -> None:
        reached = {
            "before the first trial": lambda: "trials of up to" in self.said(),
            "search": self._trains,
            "between": lambda: "trained again with other seeds" in self.said(),
            "finalists": lambda: "trained again with other seeds" in self.said() and self._trains(),
            "report": lambda: "rank  trial" in self.said(),
        }
        if phase == "finalists":
            self._wait(reached["between"])
            self._rounds = rounds_in(self.log)
        self._wait(reached[phase])

    def _trains(self) -> bool:
        return rounds_in(self.log) > self._rounds

    def _wait(self, condition: Callable[[], bool]) -> None:
        wait_for(lambda: condition() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()

    def ends(self) -> int:
        return self.process.wait(timeout=300)


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    """A real server of MLflow on the folder's database, killed at the end; its address."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", f"{port}", "--workers", "1"]
    with (folder / "server.log").open("a") as log:
        server = subprocess.Popen(
            [*command, "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"],
            cwd=folder, env=environment() | ENVIRONMENT, start_new_session=True, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(lambda: answers(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(60)


def open_runs(folder: Path) -> list[str]:
    """The runs that MLflow holds to be running."""
    try:
        with sqlite3.connect(folder / "mlflow.db") as tables:
            return [name for (name,) in tables.execute("select name from runs where status = 'RUNNING'")]
    except sqlite3.OperationalError:  # it was ended before MLflow had made its tables
        return []


def check_whole(folder: Path) -> None:
    """What a sweep that was left alone leaves."""
    left = Run.read(folder / "runs/toy")
    assert [(one.number, one.status, one.rounds, one.score) for one in left.records] == [
        (number, "finished", ROUNDS, pytest.approx(0.9)) for number in range(TRIALS)
    ]
    assert [one.score for one in left.finals] == [pytest.approx(0.9)]
    assert left.end["interrupted"] is False
    children, parents = mlflow_runs(folder)
    assert sorted(children.values()) == [("FINISHED", "finished")] * TRIALS
    assert parents == ["FINISHED"]
    with sqlite3.connect(folder / "mlflow.db") as tables:
        told = tables.execute("select count(*) from metrics where key = 'score' group by run_uuid, step").fetchall()
    assert told == [(1,)] * TRIALS * ROUNDS, "MLflow hears of each round, and once"


def test_a_driver_that_is_killed_or_ended_in_every_phase(tmp_path, ray_session):
    """SIGKILL and SIGTERM in turn. SIGTERM goes to all processes of the sweep, as from systemd, to the driver last."""
    drivers = []
    for phase, number in zip(PHASES, itertools.cycle([signal.SIGKILL, signal.SIGTERM])):
        drivers.append(Driver(tmp_path, "--no-report", *(["--resume"] if drivers else [])))
        drivers[-1].reaches(phase)
        if number == signal.SIGKILL:
            drivers[-1].process.kill()
            assert drivers[-1].ends() == -number
            command_here(tmp_path, "status")
        else:
            for pid in sorted(map(int, rays_of(drivers[-1].process.pid)), reverse=True):
                os.kill(pid, number)
            assert drivers[-1].ends() == 128 + number, drivers[-1].said()
            assert "Traceback" not in drivers[-1].said()
            assert "Go on with:" in drivers[-1].said()
            assert Run.read(tmp_path / "runs/toy").end["interrupted"] is True
            wait_for(lambda: rays_of(drivers[-1].process.pid) == [])  # until init has reaped what has ended
        assert open_runs(tmp_path) == [], f"signal {number} in: {phase}"
    last = Driver(tmp_path, "--no-report", "--resume")
    assert last.ends() == 0, last.said()
    check_whole(tmp_path)
    for driver in [*drivers, last]:
        wait_for(lambda own=driver: not rays_of(own.process.pid))


def test_a_driver_whose_mlflow_server_vanishes_and_whose_experiment_is_deleted(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    port = free_port()
    with mlflow_server(tmp_path, port) as uri:
        driver = Driver(tmp_path, "--no-report", env=environment() | {"MLFLOW_TRACKING_URI": uri})
        driver.reaches("search")
        wait_for(lambda: open_runs(tmp_path))
    driver.reaches("finalists")
    with mlflow_server(tmp_path, port):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("espalier").experiment_id
        client.delete_experiment(experiment)
        assert driver.ends() == 0, driver.said()
        assert "cannot be reached" in driver.said()
        assert "Traceback" not in driver.said()
        client.restore_experiment(experiment)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        command_here(tmp_path, "status")
    check_whole(tmp_path)


def test_a_driver_whose_reader_goes_away(tmp_path):
    driver = Driver(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert b"trials of up to" in driver.process.stdout.readline()
    driver.process.stdout.close()
    wait_for(lambda: rounds_in(driver.log) > 1)
    driver.process.stderr.close()
    assert driver.ends() == 0
    check_whole(tmp_path)
    assert (tmp_path / "runs/toy/report.html").is_file()
