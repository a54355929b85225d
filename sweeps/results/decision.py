"""Decide when finalists have been trained and asked enough: a winner is told apart, or the rest would not tell either.

The plan is sequential: one seed each, a second for those that are not plainly worse, then more seeds and questions where
they may change the verdict (`allocation.py`), with a comparison after each stage whose error rates hold for all of them
together (`alpha_spending.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.results.allocation import Costs, Forecast, Sizes, price, second_seed, sizes_of, spend
from sweeps.results.alpha_spending import spent
from sweeps.results.comparison import LEVEL, Comparison, Look, compare

STEP = 0.1  # share of the budget that is spent between two looks
PATIENCE = 0.3  # share of the budget from which on it may end without a verdict
HOPELESS = 1.0  # gap, in standard errors at the end of the budget, below which it does


@dataclass(frozen=True)
class State:
    """Finalists so far: scores (S, N) by name, how they came, and the seconds that were spent on them."""

    scores: Mapping[str, np.ndarray]
    looks: Sequence[Look]
    seconds: float
    clusters: Sequence[str] = ()
    untrained: Collection[str] = ()

    def comparisons(self) -> list[Comparison]:
        return compare(self.scores, self.clusters, self.untrained, looks=self.looks)


@dataclass(frozen=True)
class Budget:
    """The seconds that finalists may take in all, and the error rate that is spent when they are used up."""

    seconds: float
    rate: float = LEVEL
    spent: float = 0.0  # error rate of earlier budgets

    def rate_at(self, seconds: float) -> float:
        return self.spent + spent(seconds / self.seconds, self.rate - self.spent)


def look(state: State, budget: Budget) -> Look:
    return Look(budget.rate_at(state.seconds), sizes_of(state.scores))


def next_stage(state: State, budget: Budget, costs: Costs) -> Sizes | None:
    """Return the sizes after the next stage; None if a winner is told apart or the budget would not change that."""
    if not state.looks:
        return second_seed(state.scores, costs)
    comparisons = state.comparisons()
    undecided = [one.second for one in comparisons if one.p >= LEVEL]
    if not undecided:
        return None
    forecast = Forecast(state.scores, comparisons[0].first, undecided, state.untrained)
    left = budget.seconds - state.seconds
    last, _ = spend(forecast, costs, left)
    hopeless = min(forecast.gap(name, last) for name in undecided) < HOPELESS
    if hopeless and state.seconds >= PATIENCE * budget.seconds:
        return None
    sizes, used = spend(forecast, costs, min(left, STEP * budget.seconds))
    return sizes if used else None


__all__ = ["Budget", "Costs", "State", "look", "next_stage", "price"]
