"""Configurations that a sweep tries after the defaults: those that did well on the recorded tasks."""

from __future__ import annotations

from search_spaces.portfolios import PORTFOLIOS
from sweeps.results.trial_params import TrialParams, in_turns
from sweeps.spec.sweep import Sweep, admissible
from trainables.core import Pair
from trainables.options import rates

SHARE = 4  # a quarter of a pair's trials


def portfolio(sweep: Sweep) -> list[TrialParams]:
    """Return the configurations to try after the defaults, pairs in turn; at most a quarter of each pair's trials.

    Empty for a sweep with configurations of an earlier one, which are of the same task.
    """
    if sweep.first:
        return []
    count = sweep.num_samples // len(sweep.pairs) // SHARE
    own = [_of(sweep, pair)[:count] for pair in sweep.pairs]
    return in_turns(own)


def _of(sweep: Sweep, pair: Pair) -> list[TrialParams]:
    space, found = sweep.space_of(pair), []
    for given in PORTFOLIOS.get(pair.learner.name, ()):
        times = {name: given[name] * getattr(pair.learner, name) for name in rates(pair.learner) if name in given}
        known = {name: value for name, value in {**given, **times}.items() if name in space.axes}
        found.append(TrialParams(pair.name, admissible(space, known)))
    return found
