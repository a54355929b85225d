"""Trials of an earlier sweep guide a new one at first, and are outvoted by what it finds itself."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import create_trial

from sweeps.results.trial_params import Observation, TrialParams
from sweeps.tuning.earlier_trials import COUNT, EarlierTrials
from sweeps.tuning.sampler import sampler_of

X = FloatDistribution(0, 1)


def observed(best: float, pair: str = "a", count: int = 40) -> list[Observation]:
    """Trials all over the range, the better the nearer to `best`."""
    places = sorted(np.linspace(0, 1, count), key=lambda x: abs(x - best))
    return [Observation(TrialParams(pair, {"x": float(x)}), 1 - i / (count - 1)) for i, x in enumerate(places)]


def test_their_scores_are_on_the_scale_of_the_new_ones() -> None:
    """By hand: ranks 1, 0.5 and 0 are the best, the median and the worst of the new scores."""
    three = [Observation(TrialParams("a", {"x": x}), rank) for x, rank in ((0.1, 0.5), (0.2, 0.0), (0.3, 1.0))]
    known = EarlierTrials(three, {"x": X}, ["a"])
    assert [(one.params["x"], score) for one, score in known.beside(None, [])] == [(0.3, 1.0), (0.1, 0.5), (0.2, 0.0)]
    assert [score for _, score in known.beside(None, [0.70, 0.72, 0.60])] == [0.72, 0.70, 0.60]


def test_each_new_trial_takes_the_place_of_one_and_the_best_is_the_last_to_go() -> None:
    known = EarlierTrials(observed(0.2), {"x": X}, ["a"])
    places = [one.params["x"] for one, _ in known.beside(None, [])]
    assert len(places) == COUNT
    assert abs(places[0] - 0.2) < 0.02
    assert max(places) - min(places) > 0.9, "bad ones, too"
    (last,) = known.beside(None, [0.5] * (COUNT - 1))
    assert last[0].params["x"] == places[0]
    assert not list(known.beside(None, [0.5] * COUNT))
    assert not list(known.beside("b", []))


def test_each_pair_has_its_own() -> None:
    axes = {"a.x": X, "b.x": X}
    known = EarlierTrials([*observed(0.2), *observed(0.9, "b", count=3)], axes, ["a", "b"])
    assert {next(iter(one.params)) for one, _ in known.beside("a", [])} == {"a.x"}
    assert [one.params["b.x"] for one, _ in known.beside("b", [])] == [1.0, 0.5, 0.0]


def suggestions(earlier: EarlierTrials | None, tried: list[tuple[float, float]], count: int = 20) -> list[float]:
    """Draw trials one by one, after some that were tried with their scores."""
    search = optuna.create_study(direction="maximize", sampler=sampler_of("tpe", 0, earlier=earlier))
    for x, score in tried:
        search.add_trial(create_trial(params={"x": x}, distributions={"x": X}, value=score))
    drawn = []
    for _ in range(count):
        trial = search.ask()
        drawn.append(trial.suggest_float("x", 0, 1))
        search.tell(trial, state=optuna.trial.TrialState.FAIL)
    return drawn


def test_the_first_suggestions_are_where_the_earlier_sweep_was_good() -> None:
    near = np.abs(np.array(suggestions(EarlierTrials(observed(0.2), {"x": X}, ["a"]), [])) - 0.2)
    assert np.median(near) < 0.1  # 0.34 at random
    assert np.median(np.abs(np.array(suggestions(None, [])) - 0.2)) > 0.2


def test_what_the_sweep_finds_itself_overrules_them() -> None:
    """It has seen that 0.8 is good and 0.2 is bad."""
    tried = [(float(x), 1 - abs(float(x) - 0.8)) for x in np.linspace(0, 1, 12)]
    drawn = suggestions(EarlierTrials(observed(0.2), {"x": X}, ["a"]), tried)
    assert np.median(np.abs(np.array(drawn) - 0.8)) < 0.2


@pytest.mark.parametrize("ordered", [(4, 8, 16), ("cosine", "constant", "linear")])
def test_choices_are_shown_as_the_new_trials_are(ordered) -> None:
    axis = CategoricalDistribution(ordered)
    seen = [Observation(TrialParams("a", {"r": one}), place / 2) for place, one in enumerate(ordered)]
    search = optuna.create_study(
        direction="maximize", sampler=sampler_of("tpe", 0, earlier=EarlierTrials(seen * 5, {"r": axis}, ["a"]))
    )
    drawn = [search.ask().suggest_categorical("r", ordered) for _ in range(12)]
    assert drawn.count(ordered[-1]) > 6
