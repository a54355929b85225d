"""Fixtures of the tests that call commands on a sweep's folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.commands_kit import PAIR, make_run
from trainables.models.loading import load
from trainables.runtime.trial import open_learner


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    learner = open_learner(PAIR, seed=1)
    learner.round()
    learner.save(str(folder))
    learner.close()
    load.cache_clear()
    return folder


@pytest.fixture
def run(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a sweep with one finalist, in a folder where the commands start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sweeps.spec.trust._allowed", set(), raising=False)
    monkeypatch.setattr("sys.path", [*sys.path])
    folder = tmp_path / "runs/run"
    make_run(folder, adapter)
    return folder
