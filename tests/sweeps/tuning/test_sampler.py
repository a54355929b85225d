"""The samplers learn a learner's own axes, avoid the places of running trials, and keep populations small."""

from __future__ import annotations

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import create_trial

from search_spaces.space import Space
from sweeps.tuning.sampler import sampler_of

KINDS = Space({"kind": CategoricalDistribution(("a", "b"))})
JOINED = (
    KINDS | Space({"x": FloatDistribution(0, 1)}).when(kind="a") | Space({"y": FloatDistribution(0, 1)}).when(kind="b")
)


def study(kind, directions=("maximize",)):
    return optuna.create_study(directions=list(directions), sampler=sampler_of(kind, seed=0))


def test_tpe_draws_the_axes_of_one_learner_together():
    """Without `group` it knows only axes that all trials have, and draws the others each by itself."""
    searched, drawn = study("tpe"), []
    relative = searched.sampler.sample_relative
    searched.sampler.sample_relative = lambda *given: drawn.append(relative(*given)) or drawn[-1]
    for number in range(14):
        trial = searched.ask()
        JOINED.suggest(trial)
        searched.tell(trial, number / 14)
    assert {*drawn[-1]} == {"kind", "a.x", "b.y"}


def test_tpe_does_not_ask_the_same_of_trials_at_once():
    """Without `constant_liar`, trials that begin together crowd within a tenth around what is best so far."""
    x = FloatDistribution(0, 1)
    searched = study("tpe")
    for number in range(20):
        searched.add_trial(
            create_trial(params={"x": number / 19}, distributions={"x": x}, value=-abs(number / 19 - 0.5))
        )
    drawn = [searched.ask().suggest_float("x", 0, 1) for _ in range(12)]
    assert max(drawn) - min(drawn) > 0.3


def test_nsga2_breeds_after_ten_trials():
    searched = study("nsga2", ("maximize", "minimize"))
    for _ in range(21):
        trial = searched.ask()
        x = trial.suggest_float("x", 0, 1)
        searched.tell(trial, (x, x))
    assert [trial.system_attrs["NSGAIISampler:generation"] for trial in searched.trials[::10]] == [0, 1, 2]
