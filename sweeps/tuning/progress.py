"""The progress display: a block that is redrawn on a terminal, or a line per event elsewhere and where TERM=dumb."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TextIO

from ray.tune import Callback
from rich.console import Console, Group, OverflowMethod
from rich.live import Live
from rich.text import Text

from sweeps.results.leaderboard import differences, percent, varying_axes
from sweeps.results.records import UNRANKED, Status, TrialRecord, how_ended
from sweeps.results.terminal import print, printable
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.tracking.events import round_of
from sweeps.tuning.stopping import cause_of, error_of
from trainables.runtime.host_client import paused

UNDER_WAY = ("running", "paused", "interrupted")  # interrupted trials continue when there is room
STATES: tuple[Status, ...] = ("running", "paused", "finished", "pruned", "diverged", "failed", "interrupted")
LAST_EVENTS = 5  # lines of the block
REDRAWS_PER_S = 2


@dataclass
class TrialProgress:
    """One trial in the display."""

    number: int
    params: TrialParams
    status: Status = "running"
    history: TrialHistory = field(default_factory=TrialHistory)

    @property
    def round(self) -> int:
        return self.history.rounds

    @property
    def score(self) -> float | None:
        """The score of the best round."""
        return self.history.score


@dataclass
class SweepProgress:
    """The content of the display. Times are seconds since the sweep started or was resumed."""

    total: int  # trials
    rounds: int  # of a trial that is not stopped early
    chance: float
    several_pairs: bool = False
    elapsed: float = 0.0
    before: float = 0.0  # work that was done before this start, in trials
    trials: dict[str, TrialProgress] = field(default_factory=dict)
    events: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_EVENTS))

    def snapshot(self) -> list[TrialProgress]:
        """Return a copy, made in one step: a thread draws the block while the driver adds trials."""
        return list(self.trials.values())

    @property
    def best(self) -> TrialProgress | None:
        """The trial that leads the leaderboard; on a tie the earlier one."""
        able = [t for t in self.snapshot() if t.history.best and t.status not in UNRANKED]
        return max(able, key=lambda t: t.score or 0.0, default=None)

    @property
    def best_score(self) -> float:
        """The score of `best`; minus infinity before the first."""
        best = self.best
        return -math.inf if best is None or best.score is None else best.score

    def name(self, trial: TrialProgress) -> str:
        """Return the trial's number, with its pair if the sweep has several."""
        return f"trial {trial.number} ({trial.params.pair})" if self.several_pairs else f"trial {trial.number}"

    def ended(self) -> int:
        return sum(t.status not in UNDER_WAY for t in self.snapshot())

    def done(self) -> float:
        """Return the work that is done, in trials: a running trial counts by its share of rounds."""
        return sum(min(1.0, t.round / self.rounds) if t.status in UNDER_WAY else 1.0 for t in self.snapshot())

    def time_left(self) -> float | None:
        """Return the expected seconds left, at the pace so far, pruning included; None before half a trial is done."""
        fresh = self.done() - self.before
        return self.elapsed * (self.total - self.done()) / fresh if fresh >= 0.5 else None

    def best_line(self) -> str:
        if (best := self.best) is None:
            return f"no score yet (chance {percent(self.chance)})"
        axes = varying_axes([t.params for t in self.snapshot()])
        score = f"best {percent(best.score)} (chance {percent(self.chance)})"
        where = f"{score}: {self.name(best)}, round {best.history.best_round}"
        return f"{where}  {differences(best.params, axes)}".rstrip()


def render(state: SweepProgress, ascii_only: bool = False) -> Group:
    """Return the block. No line is wider than the console: long ones are folded, the last events are cut."""
    counts = Counter(trial.status for trial in state.snapshot())
    pending = max(0, state.total - len(state.trials))
    left = state.time_left()
    words = [f"{counts[name]} {name}" for name in STATES if counts[name] or name in ("running", "finished", "pruned")]
    clock = f"{minutes(state.elapsed)} elapsed" + (f", about {minutes(left)} left" if left is not None else "")
    cut: OverflowMethod = "crop" if ascii_only else "ellipsis"
    return Group(
        Text(f"{state.ended()} of {state.total} trials, {clock}", style="bold"),
        Text(bar(state.done() / max(state.total, 1), "#-" if ascii_only else "█░"), no_wrap=True, overflow="crop"),
        Text(", ".join([*words, f"{pending} pending"])),
        Text(printable(state.best_line()), style="green" if state.best else "", overflow="fold"),
        *(Text(printable(event), style="dim", no_wrap=True, overflow=cut) for event in list(state.events)),
    )


def bar(share: float, marks: str, width: int = 40) -> str:
    full = round(width * min(1.0, share))
    return marks[0] * full + marks[1] * (width - full)


def minutes(seconds: float) -> str:
    """Format seconds: 75 is `1:15`, 3,700 is `1:01:40`."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


class Progress(Callback):
    """Shows a sweep of `total` trials of up to `rounds` rounds on `stream`.

    `earlier` returns the trials of a resumed sweep, with their numbers in the leaderboard.
    """

    def __init__(
        self,
        total: int,
        rounds: int,
        chance: float,
        stream: TextIO,
        earlier: Callable[[], Iterable[TrialRecord]] = tuple,
        several_pairs: bool = False,
    ) -> None:
        self.state = SweepProgress(total, rounds, chance, several_pairs)
        self._earlier, self._stream = earlier, stream
        self._live: Live | None = None
        self._start, self._first_step = time.monotonic(), True

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        self._start = time.monotonic()
        console = Console(file=self._stream)
        if self._stream.isatty() and console.is_terminal and not console.is_dumb_terminal:  # it can be redrawn
            draw = partial(self._draw, console.options.ascii_only)
            self._live = Live(get_renderable=draw, console=console, refresh_per_second=REDRAWS_PER_S)
            self._live.start()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Add the trials that a resumed sweep has, in its first step."""
        if not self._first_step:
            return
        self._first_step = False
        for one in self._earlier():
            status: Status = "interrupted" if one.status in ("running", "paused") else one.status
            self.state.trials[one.trial_id] = TrialProgress(one.number, one.params, status, one.history)
        self.state.before = self.state.done()
        if self.state.trials:
            self._event(f"resumed with {self.state.ended()} trials done")

    def expect(self, trials: int) -> None:
        """Take in that no further trials start after so many."""
        if self.state.total != trials:
            self.state.total = trials
            self._event("the search ends: no further trial starts")

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        again = trial.trial_id in self.state.trials
        seen = self._seen(trial)
        how = f"goes on after round {seen.round}" if seen.status == "paused" else "restored" if again else "started"
        seen.status = "running"
        self._event(f"{self.state.name(seen)} {how}")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        reached, seen = self.state.best_score, self._seen(trial)
        seen.history = seen.history.with_round(round_of(result))
        if seen.history.best and seen.history.best["score"] > reached and seen.status not in UNRANKED:
            self._event(f"new {self.state.best_line()}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        seen = self._seen(trial)
        seen.status = how_ended(trial.last_result, self.state.rounds)
        where = f" at round {seen.round}" if seen.status in ("pruned", "diverged") else ""
        score = "" if seen.status == "diverged" else f", {percent(seen.score)}"  # its earlier score does not count
        self._event(f"{self.state.name(seen)} {seen.status}{where}{score}")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for trial_id in paused(trials):
            seen = self.state.trials.get(trial_id)
            if seen is not None and seen.status != "paused":
                seen.status = "paused"
                self._event(f"{self.state.name(seen)} paused at round {seen.round}, {percent(seen.score)}")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        why = cause_of(error_of(trial))
        self._event(f"{self.state.name(self._seen(trial))} goes on from its last checkpoint after {why}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        seen = self._seen(trial)
        seen.status = "failed"
        self._event(f"{self.state.name(seen)} failed after round {seen.round}: {cause_of(error_of(trial))}")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        for trial in trials:  # Tune does not report trials that a time budget or Ctrl-C ended
            seen = self.state.trials.get(trial.trial_id)
            if seen is not None and seen.status in ("running", "paused"):
                seen.status = how_ended(trial.last_result, self.state.rounds, error=trial.status == "ERROR")
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _seen(self, trial: Any) -> TrialProgress:
        known = self.state.trials
        return known.setdefault(trial.trial_id, TrialProgress(len(known), trial.config["params"]))

    def _event(self, text: str) -> None:
        line = f"{minutes(time.monotonic() - self._start):>7}  {text}"
        self.state.events.append(line)
        if self._live is None:
            print(line, file=self._stream, flush=True)

    def _draw(self, ascii_only: bool) -> Group:
        self.state.elapsed = time.monotonic() - self._start
        return render(self.state, ascii_only)
