"""Decide when finalists have been trained and asked enough: a winner is told apart, or the rest would not tell either.

The plan is sequential: one seed each, a second for those that are not plainly worse, then more seeds and questions
where they may change the verdict (`allocation.py`). A comparison follows each stage; its error rates hold for all of
them together (`alpha_spending.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sweeps.results.allocation import Costs, Forecast, Sizes, purchases, second_seed, sizes_of, spend
from sweeps.results.alpha_spending import spent_early, spent_late
from sweeps.results.comparison import LEVEL, Comparison, Look, compare

STEP = 0.07  # share of the budget that is spent between two looks
PATIENCE = 0.3  # share of the budget from which on finalists may end without a verdict
HOPELESS = 1.4  # gap, in standard errors at the end of the budget, below which they do
DECIDED = 2.3  # gap, in standard errors, at which a verdict is likely, if these are known well
FIRST_BUDGET = 10.0  # of a sweep, in costs of one seed of each finalist: 3.3 times three seeds each, at most
RESERVE = 0.1  # share of the error rate that a sweep leaves for `espalier decide`
LONGEST = 64.0  # times the seconds spent so far: beyond that no remedy is named


@dataclass(frozen=True)
class Budget:
    """The seconds that finalists may take in all, and the error rate that is spent when they are used up.

    `start` seconds and the last look's error rates were used by earlier budgets. `early` spends evenly, so that large
    differences end it soon; else most is spent at the end, which suits a budget that is used up in any case.
    """

    seconds: float
    rate: float = LEVEL
    start: float = 0.0
    last: Look | None = None
    early: bool = False

    def used(self, seconds: float) -> float:
        """Return the share of the budget that is used after so many seconds."""
        return (seconds - self.start) / (self.seconds - self.start)

    def look(self, seconds: float, sizes: Sizes) -> Look:
        """Return a look after so many seconds, with the error rates that may be spent by then."""
        used = self.used(seconds)
        before, base = (self.last.rate, self.last.base_rate) if self.last else (0.0, 0.0)
        spent = spent_early if self.early else spent_late
        return Look(before + spent(used, self.rate - before), base + spent_early(used, self.rate - base), sizes)


@dataclass(frozen=True)
class Progress:
    """Finalists so far: scores (S, N) by name, the looks at them, and the seconds that they took."""

    scores: Mapping[str, np.ndarray]
    looks: Sequence[Look] = ()
    seconds: float = 0.0
    clusters: Sequence[str] = ()
    untrained: Collection[str] = ()
    independent: bool = False  # each question has a model of its own, so one seed tells all of the luck

    def comparisons(self) -> list[Comparison]:
        """Compare the best with each of the others."""
        return compare(self.scores, self.clusters, self.untrained, looks=self.looks)

    def look(self, budget: Budget) -> Look | None:
        """Return a look at all scores; None while no finalist has a second seed, as nothing is known of luck then."""
        if self.independent:  # the only one
            return budget.look(budget.seconds, sizes_of(self.scores))
        if all(len(one) < 2 for one in self.scores.values()):
            return None
        return budget.look(self.seconds, sizes_of(self.scores))


def next_stage(now: Progress, budget: Budget, costs: Costs) -> Sizes | None:
    """Return the sizes after the next stage; None if a winner is told apart, or the budget would not change that."""
    if now.independent:
        return None
    if not now.looks:
        return second_seed(now.scores, costs, now.untrained)
    forecast = _forecast(now)
    if forecast is None or costs.most_seeds[forecast.leader] == 1:  # no better than chance: two seeds are enough
        return None
    left, costs = budget.seconds - now.seconds, _with_seeds_that_decide(costs, forecast)
    last, _ = spend(forecast, costs, left)
    if forecast.smallest_gap(last) < HOPELESS and budget.used(now.seconds) >= PATIENCE:
        return None
    for most in (min(left, STEP * (budget.seconds - budget.start)), left):  # a step may be too short for one training
        sizes, used = spend(forecast, costs, most)
        if used:
            return sizes
    return None


def needed(now: Progress, costs: Costs) -> tuple[Sizes, float] | None:
    """Return the sizes, and the further seconds, at which the leader would be told apart from all others if the
    differences so far are true ones. None if it is told apart now, or no affordable size would do.

    How far apart they must be depends on the degrees of freedom that they would have then, as in the test itself.
    """
    forecast = _forecast(now)
    if forecast is None:
        return None
    found = purchases(forecast, _with_seeds_that_decide(costs, forecast), LONGEST * now.seconds)
    return next((bought for bought in found if _likely_decided(forecast, bought[0])), None)


def _likely_decided(forecast: Forecast, sizes: Sizes) -> bool:
    from scipy.stats import norm, t

    quantiles = {name: float(t.isf(norm.sf(DECIDED), forecast.freedom(name, sizes))) for name in forecast.undecided}
    return all(forecast.gap(name, sizes) >= quantile for name, quantile in quantiles.items())


def _with_seeds_that_decide(costs: Costs, forecast: Forecast) -> Costs:
    """Allow further seeds to finalists that get one only, if nothing else is undecided.

    What the search found no better than chance gets one seed. But a leader with ten seeds cannot be told apart from a
    finalist with one: how lucky that one was stays open.
    """
    rivals = [name for name in forecast.undecided if name not in forecast.untrained]
    if any(costs.most_seeds[name] > 1 for name in rivals):
        return costs
    return replace(costs, most_seeds={**costs.most_seeds, **dict.fromkeys(rivals, costs.most_seeds[forecast.leader])})


def _forecast(now: Progress) -> Forecast | None:
    """Return a forecast of what is undecided; None if nothing is."""
    comparisons = now.comparisons()
    undecided = [one.second for one in comparisons if one.alone >= LEVEL]
    if not undecided or comparisons[0].first in now.untrained:  # the base leads: no winner is left to find
        return None
    return Forecast(now.scores, comparisons[0].first, undecided, now.untrained)
