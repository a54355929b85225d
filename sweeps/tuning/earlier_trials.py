"""Trials of an earlier sweep that TPE sees beside those of a new one (`--like`).

They say where good values were, not how good: scores on another base or other questions are on another scale. So an
earlier trial has the score that has its rank among the new ones. Each new trial of a pair takes the place of an
earlier one: what misleads is soon outvoted, and what leads well has led by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, create_trial

from sweeps.results.trial_params import LEARNER, START, Observation

COUNT = 16  # of a pair, beside its first trial


class EarlierTrials:
    """The observations that a sweep begins with, by the name of their pair as the axis `learner` has it."""

    def __init__(
        self, observations: Sequence[Observation], axes: Mapping[str, BaseDistribution], pairs: Sequence[str]
    ) -> None:
        self._trials: dict[str | None, list[FrozenTrial]] = {}
        for one in sorted(observations, key=lambda one: -one.rank):
            flat = {name: value for name, value in one.params.flat(pairs).items() if name not in (LEARNER, START)}
            own = create_trial(value=one.rank, params=flat, distributions={name: axes[name] for name in flat})
            self._trials.setdefault(one.params.pair if len(pairs) > 1 else None, []).append(own)

    def beside(self, pair: str | None, scores: Sequence[float]) -> Iterator[tuple[FrozenTrial, float]]:
        """Yield earlier trials of a pair whose new trials have these scores, each with a score on their scale.

        Of more than are shown, those whose ranks are evenly apart are taken, the best one among them.
        """
        own = self._trials.get(pair, [])
        count = min(len(own), COUNT - len(scores))
        for place in np.linspace(0, len(own) - 1, count).round().astype(int) if count > 0 else ():
            rank = own[place].value
            assert rank is not None
            yield own[place], float(np.quantile(scores, rank)) if scores else rank
