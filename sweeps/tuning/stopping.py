"""When a trial stops: the last round, a person's word. When the sweep does: time, one failure again and again."""

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

STOP_FOLDER = "stop"  # of a sweep's folder: a file for each trial that `espalier stop` named
SAME = 3  # failures alike in a row, of more than one trial: the next would be, too


class SweepStopper(tune.Stopper, tune.Callback):
    """Asked after every round. `cause` is what trials failed with `SAME` times in a row, before any ended well.

    A process or node that dies is none of their doing: such a trial counts only when it has used up its restarts. A
    set-up that fails is, although Ray calls it a dead actor, too.
    With a cause, or when the time is `over`, the sweep ends as by Ctrl-C, so that `--resume` goes on with every trial.
    Tune's own budget and `stop_all` would end the trials, too, and for ever: healthy ones beside those that fail.
    """

    def __init__(self, folder: Path, rounds: int, time_budget_s: float | None = None) -> None:
        self._folder, self._rounds = folder / STOP_FOLDER, rounds
        self._end = math.inf if time_budget_s is None else time.monotonic() + time_budget_s
        self.over = False
        self._row: list[tuple[str, str]] = []  # trial, what it failed with
        self.cause: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return result["training_iteration"] >= self._rounds or (self._folder / trial_id).exists()

    def stop_all(self) -> bool:
        return False

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.over = time.monotonic() > self._end
        if self.over or self.cause:
            signal.raise_signal(signal.SIGUSR1)  # which Tune takes like Ctrl-C

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = error_of(trial)
        if not isinstance(error, RayActorError) or error.actor_init_failed:
            self._failed(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._row.clear()

    def _failed(self, trial: Any) -> None:
        cause = cause_of(error_of(trial))
        self._row.append((trial.trial_id, re.sub(r"\d+", "#", cause)))
        last = self._row[-SAME:]
        if len(last) == SAME and len({one for one, _ in last}) > 1 and len({alike for _, alike in last}) == 1:
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
    if getattr(inner, "actor_init_failed", False):  # Ray has only the text of what a set-up raised, under its trace
        return said[-1].strip()
    return f"{type(inner).__name__}: {said[0]}"
