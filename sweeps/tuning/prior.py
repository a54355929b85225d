"""Where good values lie before anything was tried: around the learner's default.

At first half of a pair's trials are drawn around its default and half anywhere, later fewer and fewer are (as in
PriorBand, Mallik et al. 2023, arXiv 2306.12370). So a good default is improved within a handful of trials, and a bad
one costs a few of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

WIDTH = 0.15  # of an axis: one standard deviation around the default; of a rate's axis of two decades, a factor of two
STAYS = 0.5  # probability that an axis without an order keeps the default


def share_around_default(trials: int) -> float:
    """Return the probability that the next trial of a pair is drawn around its default, after so many of its trials:
    a half after the default itself, a quarter after five, an eighth after thirteen."""
    return min(0.5, 2 / (trials + 3))


def around(default: Any, axis: BaseDistribution, order: IntDistribution | None, rng: np.random.Generator) -> Any:
    """Draw a value of an axis around a default: normal on the axis' own scale, drawn again while it is outside.

    `order` are the places of the choices of a categorical axis, if they have an order.
    """
    if isinstance(axis, CategoricalDistribution):
        own, last = axis.choices.index(default), len(axis.choices) - 1
        if order is not None:
            return axis.choices[_place(own, 0, last, rng)]
        return axis.choices[own if rng.random() < STAYS else rng.integers(last + 1)]
    assert isinstance(axis, FloatDistribution | IntDistribution)
    if isinstance(axis, IntDistribution) and not axis.log:
        steps = (axis.high - axis.low) // axis.step
        return axis.low + axis.step * _place((default - axis.low) // axis.step, 0, steps, rng)
    low, high, middle = (math.log(x) if axis.log else x for x in (axis.low, axis.high, default))
    drawn = _normal(middle, low, high, WIDTH * (high - low), rng)
    drawn = min(max(math.exp(drawn) if axis.log else drawn, axis.low), axis.high)
    if isinstance(axis, IntDistribution):
        return round(drawn)
    return drawn if axis.step is None else axis.low + axis.step * round((drawn - axis.low) / axis.step)


def _place(default: int, low: int, high: int, rng: np.random.Generator) -> int:
    """Draw a whole number; its neighbours are likely also where there are few."""
    return round(_normal(default, low, high, max(0.75, WIDTH * (high - low)), rng))


def _normal(middle: float, low: float, high: float, width: float, rng: np.random.Generator) -> float:
    while width > 0:
        if low <= (drawn := rng.normal(middle, width)) <= high:
            return float(drawn)
    return middle
