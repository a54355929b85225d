"""`--max-cost`: count what a sweep costs on rented machines, start no trial that would exceed the limit, and end all
trials when it is reached.

The cluster's price per hour is asked from its provider every minute and summed up. Pods that are idle or serve another
sweep count, too, because they are paid for. The price of a trial's second is all dollars divided by all seconds of
trials, both since this driver started. A trial is expected to take as long as the mean of those that have ended. A
price that RunPod does not know counts as over the limit. One that is not available for a while does not.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from ray import tune

from cluster import prices
from trainables.atomic import replace_file
from trainables.bad_input import BadInput, read_number, reading

logger = logging.getLogger(__name__)
EVERY_S = 60.0
SPENT = "dollars.txt"  # in a sweep's folder
HOUR_S = 3600.0


def spent_before(file: Path) -> float:
    """Return the dollars that a sweep had spent before, as its file has them; 0 without one. Raises BadInput."""
    if not file.is_file():
        return 0.0
    with reading(file, "write the dollars into it, as a number"):
        return read_number(file.read_text().strip())


class CostLimit(tune.Callback):
    """Sums up the dollars spent. `rate` returns dollars per hour; while it fails, its last value is used."""

    def __init__(self, rate: Callable[[], float], limit: float | None, every_s: float = EVERY_S) -> None:
        self.dollars, self.stopped = 0.0, False
        self.reached: str | None = None  # why running trials were ended, in words
        self._before = 0.0  # dollars before the sweep was interrupted: the seconds of its trials are not known
        self._rate, self._limit, self._every_s = rate, limit, every_s
        self.hourly = rate()
        self._at = time.monotonic()
        self._lock = threading.Lock()
        self._running: dict[str, float] = {}  # trial id -> when it started
        self._ended: list[float] = []  # seconds of the trials that have ended
        self._file: Path | None = None
        self._over = threading.Event()
        self._enforced = False
        threading.Thread(target=self._watch, daemon=True).start()

    def keep_in(self, file: Path) -> None:
        """Write the sum to a file, and add what the file has from before an interruption."""
        self._before = spent_before(file)
        self.dollars += self._before
        self._file = file

    def may_start(self) -> bool | None:
        """Return whether another trial fits the limit; None if that depends on the trials that run now."""
        if self._limit is None:
            return True
        self.add_elapsed()
        if self.dollars + self._to_come() <= self._limit and self.dollars < self._limit:
            return True
        if self._running and self.dollars < self._limit:
            return None
        self.stopped = True
        return False

    def may_start_finalists(self, count: int) -> bool:
        """Return whether so many more trials fit the limit, if each costs as much as the mean of those that ended."""
        if self._limit is None:
            return True
        self.add_elapsed()
        each = self._per_second([]) * sum(self._ended) / max(1, len(self._ended))
        return self.dollars + count * each <= self._limit and self.dollars < self._limit

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Send this process a Ctrl-C when the limit is reached meanwhile, so that all work is kept."""
        with self._lock:
            self._enforced = True
        try:
            yield
        finally:
            with self._lock:  # no signal comes after this
                self._enforced = False

    def seconds_left(self) -> float:
        """Return the seconds until the limit is reached at the present price; infinity without a limit."""
        if self._limit is None or not self.hourly:
            return math.inf
        self.add_elapsed()
        return max(0.0, self._limit - self.dollars) / self.hourly * HOUR_S

    def close(self) -> None:
        self.add_elapsed()
        self._over.set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running[trial.trial_id] = time.monotonic()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        started = self._running.pop(trial.trial_id, None)
        if started is not None:
            self._ended.append(time.monotonic() - started)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def _to_come(self) -> float:
        """Return the dollars that the running trials and another one are expected to cost; 0 while none has ended."""
        if not self._ended:
            return 0.0
        now, mean = time.monotonic(), sum(self._ended) / len(self._ended)
        elapsed = [now - start for start in self._running.values()]
        return self._per_second(elapsed) * (mean + sum(max(0.0, mean - seconds) for seconds in elapsed))

    def _per_second(self, elapsed: Sequence[float]) -> float:
        """Return the dollars for a second of a trial. `elapsed` are the seconds of the trials that run."""
        return (self.dollars - self._before) / max(1.0, sum(self._ended) + sum(elapsed))

    def _watch(self) -> None:
        """Update the sum and the price until `close`. An error must not end the thread."""
        while not self._over.wait(self._every_s):
            self.add_elapsed()
            try:
                self.hourly = self._rate()
            except prices.UnknownPrice as error:
                self._end_trials(error.message)
            except Exception as error:  # the pods cost something, whatever the API answers
                logger.warning("the price of the cluster is not available (%s); the last one is used", error)

            if self._limit is not None and self.dollars >= self._limit:
                self._end_trials(f"{self.dollars:.2f} dollars are spent")

    def _end_trials(self, why: str) -> None:
        """End the trials that run as Ctrl-C does, once, if there is a limit."""
        with self._lock:
            if self._limit is None or not self._enforced or self.reached:
                return
            self.reached, self.stopped = why, True
            # To the main thread: Python handles signals there, and it may wait in a call that only a signal ends.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def add_elapsed(self) -> None:
        with self._lock:
            now = time.monotonic()
            self.dollars += self.hourly * (now - self._at) / HOUR_S
            self._at = now
            if self._file is None:
                return
            try:
                replace_file(self._file, f"{self.dollars:.6f}\n".encode())
            except OSError as error:  # the sum is kept in memory and written with the next one
                logger.warning("what the sweep has cost cannot be written to %s (%s)", self._file, error)


def cost_limit_of(autoscaler: Mapping[str, Any] | None, limit: float | None) -> CostLimit | None:
    """Return the cost limit of a cluster with this configuration; None if its prices are not known.

    Raises BadInput if there is a limit and no price.
    """
    if autoscaler is None or not prices.has_prices(autoscaler):
        if limit is not None:
            raise BadInput(
                f"--max-cost {limit}:", "prices are known on a RunPod cluster only", "drop it, or add --cluster"
            )
        return None
    try:
        return CostLimit(lambda: prices.current_rate(autoscaler), limit)
    except click.ClickException as error:
        if limit is None:
            return None
        raise BadInput(f"--max-cost {limit}:", f"{error.message}") from error
