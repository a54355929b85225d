"""The Optuna study in a sweep's folder: where it lies, what its trials say of themselves, and which take a place."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from sweeps.results.run_folder import DATABASE

# User attributes of a trial.
TUNE_ID, ENDED, ROUNDS, DIVERGED_ROUND = "tune_trial_id", "ended", "rounds", "diverged_round"
PLACELESS = ("lost", "refused")  # of what ENDED says
DATABASE_WAIT_S = 60  # for a lock that somebody's dashboard holds


def storage_of(folder: Path) -> str:
    """The address of the study in a sweep's folder."""
    return f"sqlite:///{(folder / DATABASE).resolve()}"


def opened(address: str) -> RDBStorage:
    engine = {"connect_args": {"timeout": DATABASE_WAIT_S}} if address.startswith("sqlite") else {}
    return RDBStorage(address, engine_kwargs=engine)


def taken(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that take a place in the sweep: those that run, have ended, or wait, as clones do."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.user_attrs.get(ENDED) not in PLACELESS]
