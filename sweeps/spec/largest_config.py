"""The largest configuration of a pair: what a host must have room for, and a base must be able to read."""

from __future__ import annotations

import dataclasses
from typing import Any

from search_spaces.axis import highest
from sweeps.spec.sweep import Sweep
from trainables.core import Pair
from trainables.options import reserved


def largest_config(sweep: Sweep, pair: Pair) -> Any:
    """Return the pair's configuration with every size at the top of its range."""
    config: Any = pair.learner
    tops = {}
    sizes, axes = reserved(pair.learner), sweep.space_of(pair).axes
    for name in sizes.keys() & axes.keys():
        order = sizes[name]
        tops[name] = highest(axes[name], order.index) if isinstance(order, tuple) else highest(axes[name])
    return dataclasses.replace(config, **tops)
