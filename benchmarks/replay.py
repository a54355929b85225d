"""Replay sweeps on recorded curves: what a sweep would have picked after each round, and what it would have cost."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.curves import Curves, Seen
from sweeps.results.trial_history import TrialHistory

AT_ONCE = 4  # trials that run at the same time
GRID = np.linspace(0, 1, 401)  # costs at which picks are compared, in random searches of 64 full trainings


class Event(NamedTuple):
    """A trial has ended a round, or several."""

    spent: float  # by the whole sweep so far
    trial: int
    value: float  # by which the trial is chosen from now on; -inf if it cannot be
    true: float  # its true score


@dataclass(frozen=True)
class Events:
    """The events of repetitions of a sweep, E each. Every field is (repetitions, E)."""

    spent: np.ndarray
    trial: np.ndarray
    value: np.ndarray
    true: np.ndarray

    @classmethod
    def of(cls, sweeps: Sequence[Sequence[Event]]) -> Events:
        """Stack sweeps of any length; the last event of a short one is repeated."""
        longest = max(map(len, sweeps))
        padded = np.array([[*one, *[one[-1]] * (longest - len(one))] for one in sweeps])
        spent, trial, value, true = np.moveaxis(padded, 2, 0)
        return cls(spent, trial.astype(int), value, true)


@dataclass(frozen=True)
class Confirmation:
    """The best `finalists` are trained again with so many seeds, and asked so many new questions each time."""

    finalists: int
    seeds: int
    questions: int

    @property
    def trainings(self) -> int:
        """Its cost in full trainings."""
        return self.finalists * self.seeds


@dataclass(frozen=True)
class Picks:
    """The true score of what is picked after each event, (repetitions, E): by the search alone, and confirmed."""

    searched: np.ndarray
    confirmed: np.ndarray


def picks(events: Events, confirmation: Confirmation, rng: np.random.Generator) -> Picks:
    """Find what each sweep picks after each event: the trial of the highest value, the first of equals.

    The confirmed pick is that of the finalists, the trials of the highest values, with the most right answers.
    """
    repetitions, length = events.spent.shape
    rows, most = np.arange(repetitions), int(events.trial.max()) + 1
    value, true = np.full((repetitions, most), -np.inf), np.zeros((repetitions, most))
    searched = np.zeros((repetitions, length))
    best_few = np.zeros((repetitions, length, min(confirmation.finalists, most)))
    for event in range(length):
        trial = events.trial[:, event]
        value[rows, trial] = events.value[:, event]
        # A trial that cannot be chosen is not: without another one there is nothing, whose score is 0.
        true[rows, trial] = np.where(np.isfinite(events.value[:, event]), events.true[:, event], 0)
        searched[:, event] = true[rows, value.argmax(1)]
        few = np.argpartition(-value, best_few.shape[2] - 1, axis=1)[:, : best_few.shape[2]]
        best_few[:, event] = np.take_along_axis(true, few, axis=1)
    right = rng.binomial(confirmation.seeds * confirmation.questions, best_few)
    chosen = right.argmax(2)[:, :, None]
    return Picks(searched, np.take_along_axis(best_few, chosen, axis=2)[:, :, 0])


@dataclass(frozen=True)
class Outcome:
    """What a method reached on one task, in the mean over repetitions.

    `searched` and `confirmed`: the true score of the pick at each cost of `GRID`. `last`, `last_confirmed`: at the end.
    `spent`: by the whole search. Costs are in random searches of 64 full trainings. `picks` and `started`: of each
    repetition the true score of the last pick, and how many trials it started.
    """

    searched: np.ndarray
    confirmed: np.ndarray
    last: float
    last_confirmed: float
    spent: float
    picks: np.ndarray
    started: np.ndarray


def outcome(events: Events, unit: float, confirmation: Confirmation, rng: np.random.Generator) -> Outcome:
    """Return the outcome of repetitions; `unit` is the cost of random search of 64 full trainings."""
    found, spent = picks(events, confirmation, rng), events.spent / unit
    return Outcome(
        _at_costs(spent, found.searched),
        _at_costs(spent, found.confirmed),
        float(found.searched[:, -1].mean()),
        float(found.confirmed[:, -1].mean()),
        float(spent[:, -1].mean()),
        found.searched[:, -1],
        events.trial.max(1) + 1,
    )


def _at_costs(spent: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the mean over repetitions of the score after the last event within each cost; 0 before the first."""
    total = np.zeros(len(GRID))
    for own, score in zip(spent, scores, strict=True):
        last = np.searchsorted(own, GRID + 1e-9, side="right") - 1
        total += np.where(last >= 0, score[last], 0)
    return total / len(spent)


def first_reach(scores: np.ndarray, target: float) -> float | None:
    """Return the lowest cost of `GRID` at which the scores reach the target; None if they never do."""
    there = np.flatnonzero(scores >= target - 1e-12)
    return float(GRID[there[0]]) if there.size else None


@dataclass(frozen=True)
class Stages:
    """Synchronous stages: `sizes` trials are trained to `rounds`, and the best of them go on.

    `mean`: of how many rounds scores are averaged. One stage is random search, two are one epoch and top k, more are
    successive halving.
    """

    sizes: tuple[int, ...]
    rounds: tuple[int, ...]
    mean: int = 1


def in_stages(curves: Curves, stages: Stages, repetitions: int, rng: np.random.Generator) -> Events:
    """Replay a schedule with random configurations."""
    draws, rows = rng.random((repetitions, len(curves))), np.arange(repetitions)[:, None]
    chosen = np.argpartition(draws, stages.sizes[0] - 1, axis=1)[:, : stages.sizes[0]]
    asked = [range(max(0, end - stages.mean), end) for end in stages.rounds]
    columns = sorted({column for own in asked for column in own})
    drawn = curves.draw(chosen, columns, rng)
    seen = [drawn[:, :, np.searchsorted(columns, own)].mean(2) for own in asked]
    cost = np.concatenate([np.zeros((len(curves), 1)), curves.cost.cumsum(1)], axis=1)
    trials, spent = np.tile(np.arange(stages.sizes[0]), (repetitions, 1)), np.zeros((repetitions, 1))
    parts: list[tuple[np.ndarray, ...]] = []
    for size, (before, now), scores in zip(stages.sizes, pairwise((0, *stages.rounds)), seen, strict=True):
        trials = np.sort(trials[:, :size], axis=1)
        own = chosen[rows, trials]
        spent = spent[:, -1:] + (cost[own, now] - cost[own, before]).cumsum(1)
        lost = curves.diverged[own] & (curves.lasted[own] <= now)
        value = np.where(lost, -np.inf, scores[rows, trials])
        parts.append((spent, trials, value, curves.true[own, now - 1]))
        trials = np.take_along_axis(trials, np.argsort(-value, axis=1, kind="stable"), axis=1)
    return Events(*(np.concatenate(own, axis=1) for own in zip(*parts, strict=True)))


class Search(Protocol):
    """A searcher and a scheduler. Trials have numbers from 0."""

    def next(self) -> tuple[int, int] | None:
        """Return a trial that starts or goes on, and its configuration; None: no other is to run now."""

    def told(self, trial: int, round_: int, score: float, diverged: bool) -> bool:
        """Take the score of a trial's round; return whether it goes on at once."""


def play(curves: Curves, seen: Seen, search: Search, at_once: int = AT_ONCE) -> list[Event]:
    """Replay one sweep in the order in which rounds would end: a round lasts as long as it costs.

    A trial is chosen by its best round, as in the leaderboard.
    """
    running: list[tuple[float, int, int]] = []  # time, order among equal times, trial
    now, spent, order = 0.0, 0.0, count()
    configurations: dict[int, int] = {}
    histories: dict[int, TrialHistory] = {}
    events = []

    def start(trial: int) -> None:
        lasts = curves.cost[configurations[trial], histories[trial].rounds]
        heapq.heappush(running, (now + lasts, next(order), trial))

    def fill() -> None:
        while len(running) < at_once and (given := search.next()) is not None:
            other, configuration = given
            configurations[other] = configuration
            histories.setdefault(other, TrialHistory())
            start(other)

    fill()
    while running:
        now, _, trial = heapq.heappop(running)
        own, round_ = configurations[trial], histories[trial].rounds + 1
        spent += curves.cost[own, round_ - 1]
        diverged = bool(curves.diverged[own]) and round_ == curves.lasted[own]
        score = 0.0 if diverged else float(seen.scores(own)[round_ - 1])
        histories[trial] = history = histories[trial].with_round(
            {"round": round_, "score": score, "diverged": diverged}
        )
        best = history.best
        events.append(
            Event(spent, trial, -np.inf, 0.0)
            if best is None
            else Event(spent, trial, best["score"], curves.true[own, best["round"] - 1])
        )
        if search.told(trial, round_, score, diverged):
            start(trial)
        fill()
    return events
