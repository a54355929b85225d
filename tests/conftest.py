"""Fixtures that several test files share."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before anything imports Ray
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: a thread that waits leaves its core to other work
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="espalier-config-")  # keys of tests are no person's
atexit.register(shutil.rmtree, os.environ["XDG_CONFIG_HOME"], ignore_errors=True)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch: the workers share the cores

if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # tests under `nohup`: the drivers that they start inherit it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
LONGEST = [
    "ends",
    "several_bases",
    "sweep_runs",
    "scripts",
    "chain",
    "finished_sweep",
    "worker_group",
    "driver_interrupted",
    "host_client",
    "steering",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin, so that no process waits for another at the end."""
    items.sort(key=lambda item: _place(item.path.stem.removeprefix("test_")))


def _place(name: str) -> int:
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """A test that ends a command leaves signals as they were, and no signal that the next one could see."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)
    if loaded := sys.modules.get("sweeps.persistence.interrupt"):
        loaded._received.clear()


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _without_fsync(connection: Any, _: Any) -> None:
    """Databases of tests need not survive a loss of power; waiting for the disk takes most of their time."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One small local Ray for all tests that need it, sweeps among them: starting it takes seconds."""
    from sweeps.resources import environment

    environment.quieten()  # before Ray is imported
    import ray

    from sweeps.resources.ray_cluster import start_local

    environment.silence_ray(verbose=False)
    start_local(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100_000_000,  # bytes
        log_to_driver=False,
        configure_logging=False,
    )
    yield
    ray.shutdown()


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base's features of ARC tasks are kept in a folder of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def planted(tmp_path: Path):
    """ARC tasks with a rule that efe learns in a second."""
    from tests.support.efe_kit import planted_in  # torch

    return planted_in(tmp_path)
