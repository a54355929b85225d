"""What suggests configurations: Optuna's samplers, as a sweep asks for them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Literal

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from search_spaces.space import Space

SamplerName = Literal["tpe", "random", "nsga2"]
POPULATION = 10  # of NSGA-II; its default of 50 is more than most sweeps have trials


def sampler_of(kind: SamplerName, seed: int) -> BaseSampler:
    if kind == "random":
        return RandomSampler(seed=seed)
    if kind == "nsga2":
        return NSGAIISampler(population_size=POPULATION, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group` and the two beside it
        # Axes of one learner are drawn together and apart from another's; trials that run count as bad ones, so that
        # several at once are not alike.
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def drawn(space: Space, count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Configurations as random search draws them, the same for the same seed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # Optuna tells of every study
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    for _ in range(count):
        yield space.suggest(study.ask())
