"""Trials are drawn around the defaults at first, and less and less."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from search_spaces import axis as axes
from search_spaces.space import Space
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
from sweeps.tuning.prior import around, share_around_default
from sweeps.tuning.sampler import ordered, sampler_of

RATE = FloatDistribution(1e-4, 1e-2, log=True)


def test_half_at_first_then_less_and_less() -> None:
    assert [share_around_default(trials) for trials in (0, 1, 5, 13)] == [0.5, 0.5, 0.25, 0.125]


@pytest.mark.parametrize(
    ("distribution", "default"),
    [
        (RATE, 1e-3),
        (RATE, 1e-2),
        (FloatDistribution(0, 0.1), 0),
        (FloatDistribution(0, 1, step=0.25), 0.5),
        (IntDistribution(1, 64, log=True), 8),
        (IntDistribution(0, 10, step=5), 5),
        (CategoricalDistribution((4, 8, 16)), 16.0),
        (CategoricalDistribution(("linear", "cosine", None)), "cosine"),
        (CategoricalDistribution((7,)), 7),
        (FloatDistribution(0.5, 0.5), 0.5),
    ],
)
def test_draws_lie_inside_the_axis_and_mostly_near_the_default(distribution: BaseDistribution, default) -> None:
    rng = np.random.default_rng(0)
    drawn = [around(default, distribution, ordered(distribution), rng) for _ in range(200)]
    assert all(axes.inside(distribution, value) for value in drawn)
    if isinstance(distribution, CategoricalDistribution):
        assert drawn.count(default) >= 200 / len(distribution.choices)
        assert set(drawn) == set(distribution.choices)


def test_a_rate_stays_within_a_factor_of_two_or_so() -> None:
    """Two decades: a standard deviation of 0.15 of them is a factor of 2, and 68 % lie within one."""
    rng = np.random.default_rng(0)
    drawn = [around(1e-3, RATE, None, rng) for _ in range(2000)]
    factor = 10 ** (0.15 * 2)
    assert np.mean([1e-3 / factor < x < 1e-3 * factor for x in drawn]) == pytest.approx(0.68, abs=0.03)
    assert math.log10(np.median(drawn)) == pytest.approx(-3, abs=0.05)


def test_a_search_tries_what_lies_around_each_pairs_default() -> None:
    """Of two pairs the defaults lie at 0.9 and 0.1, and every trial scores the same: about half of the first ones are
    near them, where a fifth of the axis would get a fifth."""
    space = Space({"learner": CategoricalDistribution(("a", "b"))})
    for name in ("a", "b"):
        space = space | Space({"x": FloatDistribution(0, 1)}).when(learner=name)
    near = []
    for seed in range(30):
        settings = SearchSettings(
            space,
            "s",
            seed=seed,
            rounds=1,
            pairs=("a", "b"),
            shared=True,
            num_samples=6,
            first=[TrialParams("a", {"x": 0.9}), TrialParams("b", {"x": 0.1})],
            defaults={"a.x": 0.9, "b.x": 0.1},
        )
        searcher = OptunaSearcher(settings, optuna.storages.InMemoryStorage())
        for number in range(6):
            given = searcher.suggest(str(number))
            assert isinstance(given, dict)
            params = given["params"]
            if number > 1:
                near.append(abs(params.fields["x"] - {"a": 0.9, "b": 0.1}[params.pair]) < 0.1)
            searcher.on_trial_complete(str(number), {"training_iteration": 1, "score": 0.5, "diverged": False})
    assert 0.3 < np.mean(near) < 0.6


def test_axes_without_a_default_are_drawn_anywhere() -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler_of("tpe", 0, {"x": 0.5}))
    drawn = []
    for _ in range(20):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        drawn.append(trial.suggest_float("y", 0, 1))
        study.tell(trial, state=TrialState.FAIL)
    assert max(drawn) - min(drawn) > 0.6
