"""Optuna's samplers with the settings of a sweep."""

from __future__ import annotations

import warnings
from typing import Literal

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

SamplerName = Literal["tpe", "random", "nsga2"]
POPULATION = 10  # of NSGA-II; its default of 50 is more than most sweeps have trials


def sampler_of(kind: SamplerName, seed: int) -> BaseSampler:
    """Make the sampler for `Sweep.search`."""
    if kind == "random":
        return RandomSampler(seed=seed)
    if kind == "nsga2":
        return NSGAIISampler(population_size=POPULATION, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group` and the two beside it
        # Axes of one learner are drawn together and apart from another's; trials that run count as bad ones, so that
        # several at once are not alike.
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
