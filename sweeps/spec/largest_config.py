"""The largest configuration of a pair: what a host must have room for, and a base must be able to read."""

from __future__ import annotations

import dataclasses
from typing import Any

from search_spaces.axis import to_entry
from sweeps.spec.sweep import Sweep
from trainables.core import Pair
from trainables.options import reserved


def largest_config(sweep: Sweep, pair: Pair) -> Any:
    """Return the pair's configuration with every size at the top of its range."""
    config: Any = pair.learner
    tops = {}
    sizes, axes = reserved(pair.learner), sweep.space_of(pair).axes
    for name in sizes.keys() & axes.keys():
        axis, order = to_entry(axes[name]), sizes[name]
        if "choices" in axis:
            tops[name] = max(axis["choices"], key=order.index if isinstance(order, tuple) else None)
        else:
            tops[name] = axis["high"]
    return dataclasses.replace(config, **tops)
