"""The largest configurations of a pair: what a host must have room for and a base must be able to read, and what a
checkpoint may hold."""

from __future__ import annotations

import dataclasses
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from search_spaces.axis import highest
from sweeps.spec.sweep import Sweep
from trainables.core import Pair
from trainables.options import reserved, weight_shapes


def largest_config(sweep: Sweep, pair: Pair) -> Any:
    """Return the pair's configuration with every size at the top of its range."""
    config: Any = pair.learner
    tops = {}
    sizes, axes = reserved(pair.learner), sweep.space_of(pair).axes
    for name in sizes.keys() & axes.keys():
        order = sizes[name]
        tops[name] = highest(axes[name], order.index) if isinstance(order, tuple) else highest(axes[name])
    return dataclasses.replace(config, **tops)


def largest_weights(sweep: Sweep, pair: Pair) -> Any:
    """Return the pair's configuration with every number that shapes its weights at the top of its range."""
    axes = sweep.space_of(pair).axes
    tops = {name: highest(axes[name]) for name in weight_shapes(pair.learner) & axes.keys() if _has_numbers(axes[name])}
    config: Any = pair.learner
    return dataclasses.replace(config, **tops)


def _has_numbers(axis: BaseDistribution) -> bool:
    return not isinstance(axis, CategoricalDistribution) or all(isinstance(one, int | float) for one in axis.choices)
