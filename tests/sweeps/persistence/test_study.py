"""The study of a sweep: what Optuna itself reads in its file, also after a kill, and how it waits for room.

SQLite's own limit of pages stands for a disk that is full.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import event

from sweeps.persistence import journal
from sweeps.persistence import study as module
from sweeps.persistence.study import StudyStorage, opened, storage_of
from sweeps.results.run_folder import DATABASE

PATIENCE = 12  # more than the tries that Optuna makes itself
WRITES: dict[str, Callable[[optuna.Study, optuna.Trial, int], object]] = {
    "a new trial": lambda study, trial, turn: study.ask(),
    "a parameter": lambda study, trial, turn: trial.suggest_float(f"p{turn}", 0, 1),
    "a score": lambda study, trial, turn: trial.report(turn, turn),
    "an attribute": lambda study, trial, turn: trial.set_user_attr(f"a{turn}", "x" * 1000),
    "an end": lambda study, trial, turn: study.tell(study.ask(), turn),
}


@pytest.mark.parametrize("what", WRITES)
def test_what_a_full_disk_refuses_is_written_when_there_is_room(what, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    monkeypatch.setattr("random.random", lambda: 0.0)  # of two seconds that Optuna waits between its own tries
    storage = opened(storage_of(tmp_path))
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    with storage.engine.connect() as connection:
        room = connection.exec_driver_sql("PRAGMA page_count").scalar()
    refused = []

    @event.listens_for(storage.engine, "checkout")
    def limit(connection, *_):
        connection.execute(f"PRAGMA max_page_count = {room + len(refused) // PATIENCE}")

    @event.listens_for(storage.engine, "handle_error")
    def count(context):
        refused.append(str(context.original_exception))

    turn = 0
    while not refused:
        turn += 1
        assert turn < 2000, "the disk was never full"
        WRITES[what](study, trial, turn)
    assert set(refused) == {"database or disk is full"}
    kept = optuna.load_study(study_name=study.study_name, storage=storage_of(tmp_path)).trials
    written = {"a new trial": len(kept) - 1, "a parameter": len(kept[0].params)}
    written |= {"a score": len(kept[0].intermediate_values), "an attribute": len(kept[0].user_attrs)}
    written |= {"an end": sum(one.state.is_finished() for one in kept)}
    assert written[what] == turn


def seen_by_optuna(folder: Path) -> list[dict[str, Any]]:
    """Return the trials as Optuna's own storage reads them. Here trials are counted from another number."""
    return plain(optuna.load_study(study_name="s", storage=RDBStorage(storage_of(folder))))


def plain(study: optuna.Study) -> list[dict[str, Any]]:
    return [{name: value for name, value in vars(one).items() if name != "_trial_id"} for one in study.trials]


def a_search(folder: Path) -> optuna.Study:
    """Return a study with trials of all kinds."""
    study = optuna.create_study(storage=opened(storage_of(folder)), study_name="s", directions=["maximize", "minimize"])
    study.set_user_attr("about", {"a": 1})
    study.enqueue_trial({"rate": 0.5}, {"start_from": "there"})
    for values in ([1.0, math.inf], [-math.inf, 2.0]):
        trial = study.ask()
        trial.suggest_float("rate", 1e-5, 1, log=True)
        trial.suggest_categorical("rank", (4, "8", None))
        trial.suggest_int("count", 1, 9)
        trial.set_user_attr("rounds", [{"round": 1, "score": 0.1 + 0.2, "note": "\u00e4'"}])
        trial.set_user_attr("rounds", [{"round": 1}, {"round": 2, "score": 1 / 3}])
        trial.set_constraint("diverged", 1.0)
        study.tell(trial, values)
    study.tell(study.ask(), state=TrialState.FAIL)
    study.ask()
    study.enqueue_trial({"rank": None})
    return study


def test_optuna_reads_in_the_file_what_the_study_has(tmp_path):
    study = a_search(tmp_path)
    assert seen_by_optuna(tmp_path) == plain(study)
    assert [one.state.name for one in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "RUNNING", "WAITING"]
    again = optuna.load_study(study_name="s", storage=opened(storage_of(tmp_path)))
    assert plain(again) == plain(study)
    assert (again.user_attrs, again.directions) == (study.user_attrs, study.directions)


def test_scores_that_are_no_numbers_are_read_as_they_were(tmp_path):
    study = optuna.create_study(storage=opened(storage_of(tmp_path)), study_name="s")
    trial = study.ask()
    for round_, score in enumerate((0.1 + 0.2, math.inf, -math.inf, math.nan)):
        trial.report(score, round_)
    (kept,) = optuna.load_study(study_name="s", storage=RDBStorage(storage_of(tmp_path))).trials
    assert repr(kept.intermediate_values) == repr({0: 0.1 + 0.2, 1: math.inf, 2: -math.inf, 3: math.nan})


def test_a_study_of_optunas_own_storage_goes_on(tmp_path):
    study = optuna.create_study(storage=RDBStorage(storage_of(tmp_path)), study_name="s", direction="maximize")
    study.enqueue_trial({"x": 0.25})
    for _ in range(3):
        trial = study.ask({"x": FloatDistribution(0, 1), "kind": CategoricalDistribution(("a", "b"))})
        trial.report(0.5, 1)
    study.tell(0, 0.75)
    before = seen_by_optuna(tmp_path)
    ours = optuna.load_study(study_name="s", storage=opened(storage_of(tmp_path)))
    assert plain(ours) == before
    ours.tell(1, state=TrialState.PRUNED)
    assert ours.ask().number == 3
    assert plain(ours) == seen_by_optuna(tmp_path)


def test_trials_that_another_process_adds_are_seen_and_numbered_in_turn(tmp_path):
    ours = optuna.create_study(storage=opened(storage_of(tmp_path)), study_name="s")
    other = optuna.load_study(study_name="s", storage=RDBStorage(storage_of(tmp_path)))
    assert ours.ask().number == 0
    other.enqueue_trial({"x": 0.125})
    fixed = optuna.trial.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"x": 0.25}})
    ours.add_trial(fixed)  # before it has looked for others
    assert [one.state.name for one in ours.trials] == ["RUNNING", "WAITING", "WAITING"]
    assert [ours.ask().suggest_float("x", 0, 1) for _ in range(2)] == [0.125, 0.25]
    assert plain(ours) == seen_by_optuna(tmp_path)


def test_what_belongs_together_is_in_the_file_at_once_or_not_at_all(tmp_path):
    storage = opened(storage_of(tmp_path))
    assert isinstance(storage, StudyStorage)
    trial = optuna.create_study(storage=storage, study_name="s").ask()
    with storage.together():
        trial.set_user_attr("rounds", [1])
        trial.report(0.5, 1)
        (before,) = seen_by_optuna(tmp_path)
        assert (before["_user_attrs"], before["intermediate_values"]) == ({}, {})
    (after,) = seen_by_optuna(tmp_path)
    assert (after["_user_attrs"], after["intermediate_values"]) == ({"rounds": [1]}, {1: 0.5})


KILLED = """
import os, signal, sys, optuna
from pathlib import Path
from sweeps.persistence.study import opened, storage_of
storage = opened(storage_of(Path(sys.argv[1])))
study = optuna.create_study(storage=storage, study_name="s")
for number in range(40):
    with storage.together():
        trial = study.ask()
        trial.report(number / 40, 1)
    study.tell(trial, number)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_nothing_that_was_told(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path.cwd(), env=os.environ | {"PYTHONPATH": "."}
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / f"{DATABASE}-wal").stat().st_size > 0, "nothing of it was moved into the database yet"
    copied = shutil.copytree(tmp_path, tmp_path / "copied")
    study = optuna.load_study(study_name="s", storage=opened(storage_of(copied)))
    assert [(one.value, one.intermediate_values) for one in study.trials] == [(n, {1: n / 40}) for n in range(40)]


def test_a_closed_study_is_one_file_that_can_be_read_where_nothing_can_be_written(tmp_path):
    storage = opened(storage_of(tmp_path))
    assert isinstance(storage, StudyStorage)
    study = optuna.create_study(storage=storage, study_name="s")
    study.tell(study.ask(), 1.0)
    assert journal_mode(tmp_path) == "wal"
    storage.close()
    assert [one.name for one in tmp_path.iterdir()] == [DATABASE]
    assert (journal_mode(tmp_path), len(seen_by_optuna(tmp_path))) == ("delete", 1)
    study.tell(study.ask(), 2.0)  # it opens again
    assert (journal_mode(tmp_path), len(seen_by_optuna(tmp_path))) == ("wal", 2)


def test_a_close_does_not_wait_for_readers(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "READERS_WAIT_S", 0.0)
    storage = opened(storage_of(tmp_path))
    assert isinstance(storage, StudyStorage)
    study = optuna.create_study(storage=storage, study_name="s")
    reader = sqlite3.connect(tmp_path / DATABASE)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM trials").fetchone() == (0,)
    study.ask()  # nor does a write
    storage.close()
    reader.close()
    assert len(seen_by_optuna(tmp_path)) == 1


@dataclass
class Partition:
    """What psutil says of a mounted file system."""

    mountpoint: str
    fstype: str


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "9p", "of a later year"])
def test_a_disk_of_several_machines_has_no_write_ahead_log(tmp_path, monkeypatch, kind):
    mounted = [Partition("/", "ext4"), Partition(str(tmp_path.parent), kind)]
    monkeypatch.setattr(journal.psutil, "disk_partitions", lambda all: mounted)
    study = a_search(tmp_path)
    assert journal_mode(tmp_path) == "delete"
    assert seen_by_optuna(tmp_path) == plain(study)


def journal_mode(folder: Path) -> str:
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        return database.execute("PRAGMA journal_mode").fetchone()[0]
