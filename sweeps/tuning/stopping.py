"""Stop a trial (ASHA, last round, `espalier stop`) or the sweep (time, repeated failures)."""

from __future__ import annotations

import math
import pickle
import re
import signal
import time
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayActorError
from ray.tune.schedulers import AsyncHyperBandScheduler

from sweeps.persistence.interrupt import disk_fault, wait_for_disk
from sweeps.spec.sweep import Sweep

STOP_FOLDER = "stop"  # in a sweep's folder; `espalier stop` writes a file for a trial into it
SAME = 3  # equal failures in a row, in more than one trial, that end the sweep
AT_ONCE_S = 1.0  # a disk that takes a file within this was not full


def stopping_asha(sweep: Sweep) -> AsyncHyperBandScheduler:
    """Return Ray's ASHA, which stops trials for good, with the sweep's rounds, grace period and reduction factor."""
    return AsyncHyperBandScheduler(
        time_attr="training_iteration",
        max_t=sweep.rounds,
        grace_period=sweep.effective_grace_period(),
        reduction_factor=sweep.reduction_factor,
    )


class SweepStopper(tune.Stopper, tune.Callback):
    """Tells Tune after every round whether a trial stops, and ends the sweep on repeated failures or when time is up.

    `cause` is the failure that came `SAME` times in a row. A process or node that dies is not the trial's fault: such
    a trial counts only when it has used up its restarts. A failed set-up counts, although Ray calls it a dead actor.
    `disk_fault` is the error of a trial that could not write its checkpoint, on a disk that stays full.
    With one of these, or when the time is `over`, the sweep ends as by Ctrl-C, so that `--resume` continues all trials.
    Tune's own budget and `stop_all` would end all trials for good, also healthy ones.
    """

    def __init__(self, folder: Path, rounds: int, time_budget_s: float | None = None) -> None:
        self._folder, self._rounds = folder / STOP_FOLDER, rounds
        self._end = math.inf if time_budget_s is None else time.monotonic() + time_budget_s
        self.over = False
        self._row: list[tuple[str, str]] = []  # failures since the last trial that ended well: trial id, cause
        self.cause: str | None = None
        self.disk_fault: BaseException | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return result["training_iteration"] >= self._rounds or trial_id in self.stopped()

    def stopped(self) -> set[str]:
        """Return the ids of the trials that `espalier stop` named."""
        return {file.name for file in self._folder.iterdir()} if self._folder.is_dir() else set()

    def stop_all(self) -> bool:
        return False

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.over = time.monotonic() > self._end
        if self.over or self.cause or self.disk_fault:
            signal.raise_signal(signal.SIGUSR1)  # Tune handles it as Ctrl-C

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = error_of(trial)
        if not isinstance(error, RayActorError) or error.actor_init_failed:
            self._failed(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._row.clear()

    def _failed(self, trial: Any) -> None:
        error = error_of(trial)
        if is_of_disk(error):
            began = time.monotonic()
            if not wait_for_disk(self._folder.parent):
                self.disk_fault = error
                return
            if time.monotonic() - began > AT_ONCE_S:
                return  # there was no room for a while; else it is another disk, or the trial's own fault
        cause = cause_of(error)
        self._row.append((trial.trial_id, re.sub(r"\d+", "#", cause)))
        last = self._row[-SAME:]
        if len(last) == SAME and len({one for one, _ in last}) > 1 and len({alike for _, alike in last}) == 1:
            self.cause = cause


def error_of(trial: Any) -> BaseException:
    """Return the last error of a trial, read from its own folder: Tune's copy may be incomplete."""
    try:
        return pickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception as unreadable:  # if the error cannot be unpickled here, report that
        return unreadable


def is_of_disk(error: BaseException) -> bool:
    """Return whether a trial's error says that a disk took no more."""
    return disk_fault(getattr(error, "cause", None) or error) is not None


def cause_of(error: BaseException) -> str:
    """Return `RuntimeError: message` in one line, for the error inside Ray's wrapper."""
    inner = getattr(error, "cause", None) or error
    said = str(inner).strip().splitlines() or [""]
    if getattr(inner, "actor_init_failed", False):  # of a set-up's error Ray keeps only the text, after the traceback
        return said[-1].strip()
    return f"{type(inner).__name__}: {said[0]}"
