"""`--max-cost`: what a sweep has cost on rented machines, and when no further trial may start.

The cluster's price per hour, as its provider bills it, is asked every minute and summed up; pods that stand idle or
serve another sweep count too, as they are paid for. A trial may start while what is spent, and for each trial that runs
and the new one the mean of those that have ended, stays within the limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import click
from ray import tune

from cluster import prices
from sweeps.engine.sweep import BadInput

EVERY_S = 60.0
HOUR_S = 3600.0


class Spending(tune.Callback):
    """`rate` gives dollars an hour; one that fails now and then leaves the last figure standing."""

    def __init__(self, rate: Callable[[], float], limit: float | None, every_s: float = EVERY_S) -> None:
        self.dollars, self.stopped = 0.0, False
        self._rate, self._limit, self._every_s = rate, limit, every_s
        self._hourly = rate()
        self._at = time.monotonic()
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._ended = 0
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def may_start(self) -> bool:
        """Whether the limit has room for one trial more; once it has not, it never has again."""
        if self._limit is not None and not self.stopped:
            self._add()
            each = self.dollars / self._ended if self._ended else 0.0
            expected = self.dollars + each * (len(self._running) + 1)
            self.stopped = expected > self._limit or self.dollars >= self._limit
        return not self.stopped

    def close(self) -> None:
        self._add()
        self._over.set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.add(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.discard(trial.trial_id)
        self._ended += 1

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def _watch(self) -> None:
        while not self._over.wait(self._every_s):
            self._add()
            try:
                self._hourly = self._rate()
            except click.ClickException:  # the API is away for a while; its pods cost what they did
                continue

    def _add(self) -> None:
        with self._lock:
            now = time.monotonic()
            self.dollars += self._hourly * (now - self._at) / HOUR_S
            self._at = now


def spending(autoscaler: Mapping[str, Any] | None, limit: float | None) -> Spending | None:
    """Of a cluster with this configuration; None where nobody knows its prices.

    Raises BadInput where there is a limit and no price.
    """
    if autoscaler is None or not prices.priced(autoscaler):
        if limit is not None:
            raise BadInput(f"--max-cost {limit}: prices are known on a RunPod cluster only; drop it, or add --cluster")
        return None
    try:
        return Spending(lambda: prices.rate(autoscaler), limit)
    except click.ClickException as error:
        if limit is None:
            return None
        raise BadInput(f"--max-cost {limit}: {error.message}") from error
