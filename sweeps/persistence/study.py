"""The Optuna study in a sweep's folder: its database, the attributes of its trials, and how it is read and written."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from sweeps.persistence.interrupt import is_disk_full, wait_for_disk
from sweeps.persistence.journal import end_journal, move_journal, use_journal
from sweeps.results.run_folder import DATABASE
from sweeps.spec.sqlite_address import sqlite_address, sqlite_file
from trainables.bad_input import reading

# User attributes of a trial.
TUNE_ID, ENDED, ROUNDS, DIVERGED_ROUND = "tune_trial_id", "ended", "rounds", "diverged_round"
WITHOUT_PLACE = ("lost", "refused")  # values of ENDED: another trial takes the place of such a one
DATABASE_WAIT_S = 60  # for a lock that a dashboard may hold, and for room on the disk
PAUSE_S = 0.2  # between two tries to write

# Optuna's tables (schema v3.2.0.a, which `RDBStorage` makes and checks). A row of the database replaces an older one.
NEW_TRIAL = (
    "INSERT INTO trials (number, study_id, state, datetime_start)"
    " SELECT count(*), ?, 'RUNNING', ? FROM trials WHERE study_id = ?"
)
NEWER_TRIALS = "SELECT trial_id, study_id FROM trials WHERE trial_id > ? ORDER BY trial_id"
STATE = "UPDATE trials SET state = ?, datetime_start = ?, datetime_complete = ? WHERE trial_id = ?"
PARAM = "INSERT OR REPLACE INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)"
ATTRIBUTE = "INSERT OR REPLACE INTO trial_{}_attributes (trial_id, key, value_json) VALUES (?, ?, ?)"
USER, SYSTEM = ATTRIBUTE.format("user"), ATTRIBUTE.format("system")
VALUE = "INSERT OR REPLACE INTO trial_values (trial_id, objective, value, value_type) VALUES (?, ?, ?, ?)"
SCORE = (
    "INSERT OR REPLACE INTO trial_intermediate_values"
    " (trial_id, step, intermediate_value, intermediate_value_type) VALUES (?, ?, ?, ?)"
)

T = TypeVar("T")


def storage_of(folder: Path) -> str:
    """Return the SQLAlchemy address of the study in a sweep's folder."""
    return sqlite_address(folder / DATABASE)


class StudyStorage(InMemoryStorage):
    """Optuna's database in an SQLite file, with its trials in memory, where all reading is done.

    Each change is in the file when its call returns; within `together`, when that ends. The disk may be full for a
    while: what it does not take is written when there is room. Another process may add trials (`espalier clone`).
    Optuna's own storage reads all trials that have not ended again for each decision, and writes each value by itself.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        # Optuna makes the tables, checks their version, and keeps what is rarely written.
        address, wait = sqlite_address(file), {"timeout": DATABASE_WAIT_S}
        self._database = self._patiently(lambda: RDBStorage(address, engine_kwargs={"connect_args": wait}))
        self.engine = self._database.engine
        use_journal(self.engine, file)
        self._studies_here: dict[int, int] = {}  # ids: in the database -> here
        self._rows: list[int] = []  # the id of each trial in the database; here they are counted from 0
        self._unwritten: list[tuple[str, tuple[Any, ...]]] = []  # statements with their values
        self._is_together = False
        found = []
        for one in self._database.get_all_studies():
            there = self._database.get_study_id_from_name(one.study_name)
            here = self._studies_here[there] = super().create_new_study(one.directions, one.study_name)
            for key, value in one.user_attrs.items():
                super().set_study_user_attr(here, key, value)
            for key, value in one.system_attrs.items():
                super().set_study_system_attr(here, key, value)
            found += [(trial._trial_id, there, trial) for trial in self._database.get_all_trials(there, deepcopy=False)]
        for row, there, trial in sorted(found, key=lambda each: each[0]):
            self._take_in(row, there, trial)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write the changes of the block at its end, in one transaction."""
        self._is_together = True
        try:
            yield
        finally:
            self._is_together = False
            self._write()

    def secure(self) -> None:
        """Let what was written survive a loss of power, too."""
        self._patiently(lambda: move_journal(self.engine))

    def close(self) -> None:
        """Leave the database as one file. It opens again with the next access."""
        self.engine.dispose()
        end_journal(self._file)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        there = self._patiently(lambda: self._database.create_new_study(directions, study_name))
        here = super().create_new_study(directions, self._database.get_study_name_from_id(there))
        self._studies_here[there] = here
        return here

    def delete_study(self, study_id: int) -> None:
        raise NotImplementedError("a sweep's study goes with its folder")

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_user_attr(study_id, key, value)
        self._patiently(lambda: self._database.set_study_user_attr(self._there(study_id), key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_system_attr(study_id, key, value)
        self._patiently(lambda: self._database.set_study_system_attr(self._there(study_id), key, value))

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Add a trial, at once: another process that adds one, too, must see its number."""
        there, trial = self._there(study_id), template_trial or create_trial(state=TrialState.RUNNING)

        def add() -> int:
            if template_trial is not None:
                return self._database.create_new_trial(there, template_trial)
            with self.engine.begin() as connection:
                return connection.exec_driver_sql(NEW_TRIAL, (there, _utc(trial.datetime_start), there)).lastrowid

        row = self._patiently(add)
        self._take_in_newer({row: trial})
        return self._rows.index(row)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        self._keep(PARAM, trial_id, param_name, param_value_internal, distribution_to_json(distribution))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if not super().set_trial_state_values(trial_id, state, values):
            return False
        trial = self.get_trial(trial_id)
        for objective, value in enumerate(values or ()):
            self._keep(VALUE, trial_id, objective, *_stored(value))
        times, row = (_utc(trial.datetime_start), _utc(trial.datetime_complete)), self._rows[trial_id]
        self._keep(STATE, None, state.name, *times, row)
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._keep(SCORE, trial_id, step, *_stored(intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_user_attr(trial_id, key, value)
        self._keep(USER, trial_id, key, json.dumps(value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_system_attr(trial_id, key, value)
        self._keep(SYSTEM, trial_id, key, json.dumps(value))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._take_in_newer({})
        return super().get_all_trials(study_id, deepcopy, states)

    def _there(self, study_id: int) -> int:
        return next(there for there, here in self._studies_here.items() if here == study_id)

    def _take_in_newer(self, known: dict[int, FrozenTrial]) -> None:
        """Take in the trials that are new in the database: those `known` by their row, and those of other processes."""
        with self.engine.connect() as connection:
            newer = connection.exec_driver_sql(NEWER_TRIALS, (self._rows[-1] if self._rows else 0,)).all()
        for row, there in newer:
            if there in self._studies_here:
                self._take_in(row, there, known.get(row) or self._database.get_trial(row))

    def _take_in(self, row: int, there: int, trial: FrozenTrial) -> None:
        super().create_new_trial(self._studies_here[there], trial)
        self._rows.append(row)

    def _keep(self, statement: str, trial_id: int | None, *values: Any) -> None:
        self._unwritten.append((statement, values if trial_id is None else (self._rows[trial_id], *values)))
        if not self._is_together:
            self._write()

    def _write(self) -> None:
        """Write what is not written yet in one transaction. Writing it twice does no harm."""
        if not self._unwritten:
            return

        def write() -> None:
            with self.engine.begin() as connection:
                for statement, rows in groupby(self._unwritten, key=lambda one: one[0]):
                    connection.exec_driver_sql(statement, [values for _, values in rows])

        self._patiently(write)
        self._unwritten.clear()

    def _patiently(self, write: Callable[[], T]) -> T:
        """Write, for a minute again and again where the disk is full: what fails is rolled back."""
        end = time.monotonic() + DATABASE_WAIT_S
        while True:
            try:
                return write()
            except (StorageInternalError, SQLAlchemyError) as error:
                if not is_disk_full(error) or time.monotonic() > end or not wait_for_disk(self._file.parent):
                    raise
                time.sleep(PAUSE_S)  # a small file fits, but perhaps not what SQLite needs


def _utc(local: datetime | None) -> str | None:
    """Return a time as Optuna's tables have it."""
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _stored(value: float) -> tuple[float | None, str]:
    """Return a number and its kind as Optuna's tables have them."""
    if math.isnan(value):
        return None, "NAN"
    if math.isinf(value):
        return None, "INF_POS" if value > 0 else "INF_NEG"
    return value, "FINITE"


def opened(storage: str | BaseStorage) -> BaseStorage:
    """Open the SQLite file at an SQLAlchemy address. A storage, such as Optuna's in memory, is returned as it is."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # Optuna logs a line for every study and every trial
    if isinstance(storage, BaseStorage):
        return storage
    file = sqlite_file(storage)
    assert file is not None, storage
    with reading(file):
        return StudyStorage(file)


def together(storage: BaseStorage | None) -> AbstractContextManager[None]:
    """Write the changes of a block in one transaction, if the storage has a file."""
    return storage.together() if isinstance(storage, StudyStorage) else nullcontext()


def taken(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that take a place in the sweep: running, ended and waiting ones (clones wait)."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.user_attrs.get(ENDED) not in WITHOUT_PLACE]
