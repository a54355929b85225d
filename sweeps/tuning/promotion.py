"""ASHA as its paper has it (Li et al. 2020, "A system for massively parallel hyperparameter tuning"): trials pause and
are promoted.

At each rung a trial pauses, unless it is among the best 1 / `reduction_factor` of the trials of its pair that have
reached the rung. It goes on from its checkpoint as soon as it is. So of many short starts few become long. A trial is
pruned once it could not go on whatever trials are still to come. When no other trial can come or go on, the best of
each pair goes on from its rung, however few have reached it; then the paused trials are pruned.

A decision is a function of the trials' scores so far (`Standings`), which the recorder keeps: there is no state to
save.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweeps.results.records import TrialRecord
from sweeps.tracking.events import round_of
from sweeps.tuning.clock import Clock
from sweeps.tuning.standings import Standings

BUSY = (Trial.RUNNING, Trial.PENDING)


class Limits(NamedTuple):
    """How much a search may do.

    `total` trials will be started, or fewer if the search ends before. `at_once` trials may run at the same time, and
    `seats` on each base; None: as many as Ray has resources for. No trial starts once `budget` rounds are used up, or
    those for which the `clock` has time, with those that the best trial of each pair may still need; and none once
    nothing is left to gain (`is_enough`).
    """

    total: int
    at_once: int | None = None
    seats: int | None = None
    budget: float = math.inf
    clock: Clock | None = None
    is_enough: Callable[[], bool] = lambda: False


class PromotingASHA(FIFOScheduler):
    """Pauses and promotes the trials of a sweep.

    `rungs` are the rounds after which it decides, and the last round. `records` returns the trials so far, by their
    ids. `stopped` returns the ids of the trials that somebody asked to end.
    """

    def __init__(
        self,
        rungs: Sequence[int],
        reduction_factor: int,
        records: Callable[[], Mapping[str, TrialRecord]],
        limits: Limits,
        stopped: Callable[[], Collection[str]] = tuple,
    ) -> None:
        super().__init__()
        self._rungs, self._records = list(rungs[:-1]), records
        self._known = Standings(self._rungs, reduction_factor)
        self._limits, self._stopped, self._first, self._last = limits, stopped, rungs[0], rungs[-1]
        self._trials: list[Trial] = []
        self._hopeless: set[str] = set()
        self.ended_early = False  # some trials will not start: the budget or the time is used up, or nothing to gain

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take in a new trial, or one of a resumed sweep, which Tune would start: it pauses again where it had.

        Tune's snapshot may have a trial as paused that was pruned since, and its checkpoints are deleted: it will be
        pruned again. A trial that Tune adds once more has failed: it goes on from its last checkpoint.
        """
        if trial in self._trials:
            return
        self._trials.append(trial)
        record = self._records().get(trial.trial_id)
        if record is None or trial.status != Trial.PENDING:
            return
        if record.status == "pruned":
            self._hopeless.add(trial.trial_id)
        if record.status == "pruned" or (record.rounds in self._rungs and not self._promotable([trial])):
            trial.set_status(Trial.PAUSED)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        rung = result["training_iteration"]
        if self._is_time_over():
            return TrialScheduler.STOP
        if rung not in self._rungs:
            return TrialScheduler.CONTINUE
        records, standings = self._records(), self._standings()
        own = records[trial.trial_id]
        standings.expect(own, own.history.with_round(round_of(result)))
        least = self._least(tune_controller, own.pair, besides=trial)
        if trial.trial_id in standings.chosen(own.pair, rung, least):
            return TrialScheduler.CONTINUE
        to_come = self._to_come(tune_controller)
        for pair in {pair for pair, _ in standings.keys}:  # a trial that came has taken the place of one of any pair
            ended = {name for name in standings.trials(pair) if records[name].status not in ("running", "paused")}
            self._hopeless |= standings.hopeless(pair, to_come, ended)
        return TrialScheduler.STOP if trial.trial_id in self._hopeless else TrialScheduler.PAUSE

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return a paused trial that may go on, or else a new one. Prune the paused trials when no more can come."""
        paused, stopped = self._paused(), self._stopped()
        over = self._is_time_over()
        if lost := [one for one in paused if over or one.trial_id in stopped or one.trial_id in self._hopeless]:
            for trial in lost:
                _prune(tune_controller, trial)
            paused = self._paused()
        busy = self._busy()
        promotable = self._promotable(paused, partial(self._least, tune_controller)) if self._has_room(busy) else []
        if next_one := next((trial for trial in promotable if self._has_room(busy, trial)), None):
            return next_one
        if not busy and not promotable and self._all_began(tune_controller):
            for trial in paused:
                _prune(tune_controller, trial)
        return next((trial for trial in busy if trial.status == Trial.PENDING), None)

    def may_start(self, besides: Callable[[], bool | None] | None = None) -> bool | None:
        """Return whether a new trial may start: False when the budget is used up, None for "not yet", as long as there
        is no room for it, or as a paused trial should have that room. `besides` is asked then, if it is given."""
        self.ended_early |= self.is_budget_used()
        if self.ended_early:
            return False
        busy = self._busy()
        if not self._has_room(busy) or any(self._has_room(busy, one) for one in self._promotable(self._paused())):
            return None
        self.ended_early = self._limits.is_enough()
        if self.ended_early:
            return False
        return besides() if besides else True

    def is_budget_used(self) -> bool:
        """Return whether a further trial would exceed the budget: the rounds so far, those until the first rung of
        trials that run, and those until the end of the longest trial of each pair."""
        clock, budget = self._limits.clock, self._limits.budget
        if budget == math.inf and clock is None:
            return False
        longest, sure, done, running = defaultdict[str, int](int), 0, 0, 0
        for record in self._records().values():
            rounds = max(record.rounds, self._first) if record.status == "running" else record.rounds
            sure, done, running = sure + rounds, done + record.rounds, running + (record.status == "running")
            longest[record.pair] = max(longest[record.pair], rounds)
        kept = sum(self._last - rounds for rounds in longest.values())
        return sure + kept + self._first > min(budget, clock.rounds(done, running) if clock else math.inf)

    def _is_time_over(self) -> bool:
        return self._limits.clock is not None and self._limits.clock.is_search_over

    def _paused(self) -> list[Trial]:
        return [trial for trial in self._trials if trial.status == Trial.PAUSED]

    def _busy(self) -> list[Trial]:
        return [trial for trial in self._trials if trial.status in BUSY]

    def _has_room(self, busy: Sequence[Trial], trial: Trial | None = None) -> bool:
        """Whether a trial may run beside those that are `busy`; None: any trial."""
        if self._limits.at_once is not None and len(busy) >= self._limits.at_once:
            return False
        if self._limits.seats is None or trial is None:
            return True
        return sum(_base_of(one) == _base_of(trial) for one in busy) < self._limits.seats

    def _least(self, tune_controller: Any, pair: str, besides: Trial | None = None) -> int:
        """Return how many of a pair go on from a rung in any case: 1 once no other trial of it can come there."""
        busy = any(
            one.status in BUSY and one is not besides and one.config["params"].pair == pair for one in self._trials
        )
        return int(not busy and self._all_began(tune_controller))

    def _promotable(self, paused: Sequence[Trial], least: Callable[[str], int] = lambda pair: 0) -> list[Trial]:
        """Return the paused trials that may go on, those of the latest rung first, then the best."""
        if not paused:
            return []
        records, standings, found = self._records(), self._standings(), []
        waiting = {trial.trial_id: trial for trial in paused}
        for pair, rung in standings.keys:
            for place, name in enumerate(standings.chosen(pair, rung, least(pair))):
                if name in waiting and records[name].rounds == rung:
                    found.append((-rung, place, records[name].number, waiting[name]))
        return [trial for *_, trial in sorted(found, key=lambda one: one[:3])]

    def _all_began(self, tune_controller: Any) -> bool:
        return len(self._trials) >= self._limits.total or tune_controller.search_alg.is_finished()

    def _to_come(self, tune_controller: Any) -> int:
        """Return how many trials may still start, at most."""
        every = len(self._trials) if self._all_began(tune_controller) else max(self._limits.total, len(self._trials))
        return max(0, every - len(self._records()))

    def _standings(self) -> Standings:
        """Return the standings of the trials that can still go on, or have."""
        self._known.update(self._records(), self._stopped())
        return self._known

    def debug_string(self) -> str:
        return f"ASHA with promotion after rounds {self._rungs}"


def _base_of(trial: Trial) -> str:
    return trial.config["params"].base


def _prune(tune_controller: Any, trial: Trial) -> None:
    """End a paused trial for good. Tune marks the last result of a trial that a scheduler stops in the same way."""
    trial.last_result["done"] = True
    tune_controller.stop_trial(trial)
