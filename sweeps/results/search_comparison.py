"""Tests which trials of a search tie with the best: paired by item, as all trials answer the same questions.

The best is the luckiest of all trials and of all their rounds, so a p-value is corrected for all pairs of scores of
different trials that might have turned out to be the best and another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, median
from typing import Protocol

import numpy as np

from sweeps.results.comparison import LEVEL, corrected, count_pairs, paired, t_test
from sweeps.results.statistics import Interval, smallest_difference, wilson
from sweeps.results.uncertainty import item_error

POWER = 0.8


class Scored(Protocol):
    """A trial: the scores (N,) of its best round by item, their clusters, and the number of its rounds."""

    @property
    def score(self) -> float | None: ...
    @property
    def items(self) -> tuple[float, ...]: ...
    @property
    def clusters(self) -> tuple[str, ...]: ...
    @property
    def rounds(self) -> int: ...
    @property
    def independent(self) -> int: ...
    def interval(self) -> Interval | None: ...


@dataclass(frozen=True)
class BestTie:
    """The trials that tie with the first, the best of `trials`, on n items: their places, 0 included."""

    places: tuple[int, ...]
    trials: int
    n: int
    scores: int  # of all trials and rounds, among which the first is the best
    unpaired: int  # other trials without scores by item
    p: float  # the smallest p-value of a tie, or the largest if there is none; NaN if all are unpaired
    shown: float  # the smallest difference that is found with `POWER`

    def how(self) -> str:
        """Say how they were compared."""
        if self.unpaired == self.trials - 1:
            return "unpaired, by their intervals, as scores by item are not at hand"
        sign = ">=" if len(self.places) > 1 else "<="
        p = f", p {sign} {self.p:.2g}" if math.isfinite(self.p) else ""
        rest = f"; {self.unpaired} of {self.trials - 1} unpaired, by their intervals" if self.unpaired else ""
        return f"paired by item{p} for the best of {self.scores} scores{rest}"


def tied_with_best(trials: Sequence[Scored]) -> BestTie | None:
    """Compare the first trial with each of the others; None if it has no interval.

    Trials without scores by item, or on other items, tie if the intervals overlap; that is not paired or corrected.
    """
    if not trials or (bounds := trials[0].interval()) is None:
        return None
    first, others = trials[0], trials[1:]
    tests = [_paired_test(first.items, one.items, first.clusters) if _alike(first, one) else None for one in others]
    counts = [max(1, one.rounds) for one in trials]
    adjusted = corrected([1.0 if found is None else found[0] for found in tests], counts)
    places = [0]
    for place, (one, found, p) in enumerate(zip(others, tests, adjusted, strict=True), start=1):
        reach = one.interval()
        if p >= LEVEL if found else reach is not None and reach[1] >= bounds[0]:
            places.append(place)
    within = [p for place, p in enumerate(adjusted, 1) if tests[place - 1] and place in places]
    beyond = [p for place, p in enumerate(adjusted, 1) if tests[place - 1] and place not in places]
    p = math.nan if len(places) > 1 and not within else min(within, default=max(beyond, default=math.nan))
    errors = [math.sqrt(found[1]) for found in tests if found and math.isfinite(found[1])]
    shown = _shown(median(errors), count_pairs(counts)) if any(errors) else smallest_difference(first.independent)
    return BestTie(tuple(places), len(trials), first.independent, sum(counts), tests.count(None), p, shown)


def _alike(first: Scored, other: Scored) -> bool:
    """Whether both have scores of the same items."""
    return bool(first.items) and len(first.items) == len(other.items) and first.clusters == other.clusters


@lru_cache(maxsize=8192)
def _paired_test(first: tuple[float, ...], second: tuple[float, ...], clusters: tuple[str, ...]) -> tuple[float, float]:
    """Return the uncorrected p-value of the difference of two trials, never below the exact one, and its variance over
    items."""
    difference = np.asarray(first, float) - np.asarray(second, float)
    error = item_error(difference, clusters)
    return max(paired(first, second, clusters), t_test(float(difference.mean()), error)), error.variance


def _shown(error: float, pairs: int) -> float:
    """Return the difference that is found with `POWER` at this standard error, corrected for the number of pairs."""
    normal = NormalDist()
    return min(1.0, (normal.inv_cdf(1 - LEVEL / pairs / 2) + normal.inv_cdf(POWER)) * error)


def against_trivial(trials: Sequence[Scored], trivial: Mapping[str, float]) -> tuple[str, int, bool]:
    """Compare the first trial, the best, with the best trivial strategy.

    Return the strategy, the number of scores among which the first is the best, and whether it is better than the luck
    of so many scores explains (Wilson's interval, corrected by Bonferroni).
    """
    name, looks = max(trivial, key=lambda key: trivial[key]), max(1, sum(one.rounds for one in trials))
    best = trials[0]
    low, _ = wilson((best.score or 0.0) * best.independent, best.independent, 1 - LEVEL / looks)
    return name, looks, low > trivial[name]
