"""Processes that cannot even be started: the trial which asked for them hears why, rather than wait for ever."""

from __future__ import annotations

import tempfile
import threading

import pytest
import ray.train.torch  # noqa: F401  # before the test switches it off

from tests.support.toys import Letters
from trainables.core import Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.packed.specs import WorkerGroupShape
from trainables.runtime.worker_group import WorkerGroup

LIMIT_S = 60.0  # an actor's start takes seconds on a busy machine; a trial that hangs never ends


def no_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))


def no_trainer(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "0")  # `TorchTrainer(...)` refuses


@pytest.mark.parametrize(
    ("plant", "kind", "told"),
    [(no_temporary_folder, FileNotFoundError, "gone"), (no_trainer, ValueError, "Ray Train V2 must be enabled")],
)
def test_what_fails_before_the_processes_start_is_told(ray_session, monkeypatch, tmp_path, plant, kind, told):
    plant(monkeypatch, tmp_path)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            WorkerGroup(WorkerGroupShape(2, cpus=1), Pair(LoraConfig(), Letters(), "builtin:tiny"), 0)
        except BaseException as error:
            raised.append(error)

    trial = threading.Thread(target=ask, daemon=True)
    trial.start()
    trial.join(LIMIT_S)
    assert not trial.is_alive(), "it still waits for an answer"
    assert isinstance(raised[0], kind)
    assert told in str(raised[0])
    assert WorkerGroup.workers is not None
    assert not WorkerGroup.workers.alive
    WorkerGroup.shut_down()
