"""When a trial stops: the last round, a person's word. When the whole sweep does: one failure again and again."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

from ray import tune

STOP_FOLDER = "stop"  # of a sweep's folder: a file for each trial that `espalier stop` named
SAME = 3  # trials in a row that fail alike: the next would, too


class Stops(tune.Stopper, tune.Callback):
    """Asked after every round. `cause` is what `SAME` trials in a row failed with, none of them having ended well."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self._folder, self._rounds = folder / STOP_FOLDER, rounds
        self._row: dict[str, str] = {}  # trial -> what it first failed with
        self.cause: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return result["training_iteration"] >= self._rounds or (self._folder / trial_id).exists()

    def stop_all(self) -> bool:
        return self.cause is not None

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._row.clear()

    def _failed(self, trial: Any) -> None:
        cause = cause_of(error_of(trial))
        self._row.setdefault(trial.trial_id, cause)
        last = list(self._row.values())[-SAME:]
        if len(last) == SAME and len({re.sub(r"\d+", "#", one) for one in last}) == 1:
            self.cause = cause


def error_of(trial: Any) -> BaseException:
    """What a trial last failed with, from its own folder: Tune's copy may not be whole yet."""
    try:
        return pickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception as unreadable:  # an error that cannot be unpickled here is a cause like any other
        return unreadable


def cause_of(error: BaseException) -> str:
    """`RuntimeError: what it said`, of the error inside Ray's wrapping, in one line."""
    inner = getattr(error, "cause", None) or error
    said = str(inner).strip().splitlines() or [""]
    return f"{type(inner).__name__}: {said[0]}"
