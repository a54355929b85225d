"""The Optuna study in a sweep's folder: its database, and the attributes of its trials."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial

from sweeps.results.run_folder import DATABASE

# User attributes of a trial.
TUNE_ID, ENDED, ROUNDS, DIVERGED_ROUND = "tune_trial_id", "ended", "rounds", "diverged_round"
WITHOUT_PLACE = ("lost", "refused")  # values of ENDED: another trial takes the place of such a one
DATABASE_WAIT_S = 60  # for a lock that a dashboard may hold


def storage_of(folder: Path) -> str:
    """Return the SQLAlchemy address of the study in a sweep's folder."""
    return f"sqlite:///{(folder / DATABASE).resolve()}"


def opened(storage: str | BaseStorage) -> BaseStorage:
    """Open the database at an SQLAlchemy address. A storage, such as Optuna's in memory, is returned as it is."""
    if isinstance(storage, BaseStorage):
        return storage
    engine = {"connect_args": {"timeout": DATABASE_WAIT_S}} if storage.startswith("sqlite") else {}
    return RDBStorage(storage, engine_kwargs=engine)


def taken(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that take a place in the sweep: running, ended and waiting ones (clones wait)."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.user_attrs.get(ENDED) not in WITHOUT_PLACE]
