"""Rivals of Syne Tune (https://github.com/syne-tune/syne-tune), which `pip install syne-tune` installs."""

from __future__ import annotations

import importlib.util
import logging
from datetime import datetime
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from benchmarks.curves import Curves
from benchmarks.rivals import Pool

NEEDED = ("syne_tune", "dill", "sortedcontainers", "statsmodels", "xgboost")
SCORE, ROUND = "score", "training_iteration"


def missing() -> list[str]:
    """Return the packages that Syne Tune's schedulers need and that are not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def domain(axis: BaseDistribution) -> Any:
    """Return an axis as Syne Tune writes it."""
    from syne_tune import config_space

    if isinstance(axis, CategoricalDistribution):
        return config_space.choice(list(axis.choices))
    if axis.single():
        return axis.low  # type: ignore[attr-defined]
    names = ("lograndint", "randint") if isinstance(axis, IntDistribution) else ("loguniform", "uniform")
    return getattr(config_space, names[not axis.log])(axis.low, axis.high)  # type: ignore[attr-defined]


class SyneTuneSearch:
    """A scheduler of Syne Tune that suggests, and stops trials."""

    def __init__(self, scheduler: Any, curves: Curves, trials: int) -> None:
        self._scheduler, self._pool, self._most = scheduler, Pool(curves), trials
        self._trials: list[Any] = []

    def next(self) -> tuple[int, int] | None:
        from syne_tune.backend.trial_status import Trial

        if len(self._trials) == self._most:
            return None
        configuration = self._pool.nearest(self._scheduler.suggest().config)
        trial = Trial(len(self._trials), dict(self._pool.curves.params[configuration]), datetime.now())
        self._trials.append(trial)
        self._scheduler.on_trial_add(trial)
        return trial.trial_id, configuration

    def told(self, trial: int, round_: int, score: float, diverged: bool) -> bool:
        from syne_tune.optimizer.scheduler import SchedulerDecision

        own = self._trials[trial]
        decision = self._scheduler.on_trial_result(own, {SCORE: score, ROUND: round_})
        if diverged or decision == SchedulerDecision.STOP:
            self._scheduler.on_trial_remove(own)
            return False
        return True


def _made(kind: str, curves: Curves, seed: int, trials: int) -> SyneTuneSearch:
    from syne_tune.optimizer import baselines

    logging.getLogger("syne_tune").setLevel(logging.ERROR)
    np.random.seed(seed)  # its schedulers draw from numpy's global generator, too
    scheduler = getattr(baselines, kind)(
        {name: domain(axis) for name, axis in curves.space.axes.items()},
        metric=SCORE,
        time_attr=ROUND,
        max_t=curves.rounds,
        do_minimize=False,
        random_seed=seed,
        grace_period=curves.grace,
    )
    return SyneTuneSearch(scheduler, curves, trials)


def asha_cqr(curves: Curves, seed: int, trials: int) -> SyneTuneSearch:
    """ASHA with conformal quantile regression (Salinas et al. 2023)."""
    return _made("ASHACQR", curves, seed, trials)


def bohb(curves: Curves, seed: int, trials: int) -> SyneTuneSearch:
    """ASHA with kernel density estimators (Falkner et al. 2018), as Syne Tune has it."""
    return _made("BOHB", curves, seed, trials)
