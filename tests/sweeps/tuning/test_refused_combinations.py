"""Combinations that a learner refuses cost the search no trial, and the sampler learns to avoid them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from search_spaces.space import Space
from sweeps.arc import SWEEP as ARC
from sweeps.persistence.study import storage_of, taken
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
from trainables.bad_input import BadInput

X = FloatDistribution(0, 1)
LEARNERS = ["a", "b"]
SPACE = Space({"learner": CategoricalDistribution(LEARNERS)})
for name in LEARNERS:
    SPACE |= Space({"x": X}).when(learner=name)


def up_to_half(params: TrialParams) -> None:
    if params.learner == "a" and params.fields["x"] > 0.5:
        raise BadInput("x is above a half")


def searched(folder: Path, trials: int, **options: Any) -> tuple[OptunaSearcher, list[TrialParams]]:
    """A search for the largest x, and what it suggested, all of which ran to its end."""
    storage = f"sqlite:///{folder / 'optuna.db'}"
    settings = SearchSettings(SPACE, "s", seed=0, rounds=1, pairs=LEARNERS, accept=up_to_half, **options)
    search = OptunaSearcher(settings, storage)
    given = []
    for number in range(trials):
        given.append(search.suggest(str(number))["params"])
        search.on_trial_complete(str(number), {"training_iteration": 1, "score": given[-1].fields["x"]})
    return search, given


def refused(search: OptunaSearcher) -> list[FrozenTrial]:
    return [trial for trial in search.study.trials if trial.user_attrs.get("ended") == "refused"]


@pytest.mark.parametrize("options", [{}, {"sampler": "random"}, {"objectives": ("score", "seconds")}], ids=str)
def test_refused_combinations_take_no_trial(tmp_path: Path, options: dict[str, Any]) -> None:
    """Nor the share of their learner: the two get as many trials each."""
    search, given = searched(tmp_path, 12, shared=True, first=[TrialParams("a", {"x": 0.75})], **options)
    for params in given:
        up_to_half(params)
    assert [params.learner for params in given].count("a") == 6
    assert refused(search)[0].params == {"learner": "a", "a.x": 0.75}, "not even if it was to be tried first"
    assert {trial.state for trial in refused(search)} == {TrialState.COMPLETE}
    assert len(taken(search.study)) == 12


def test_the_sampler_learns_what_is_refused(tmp_path: Path) -> None:
    """The best of learner a lies beside what is refused; the sampler would ask for more for ever."""
    search, _ = searched(tmp_path, 30, first=[TrialParams("a", {"x": 0.5})])
    assert len(refused(search)) < 30


def test_a_sweep_s_learners_are_asked(tmp_path: Path) -> None:
    percell = next(pair for pair in ARC.pairs if pair.name == "percell")
    sweep = replace(ARC, pairs=(percell,), optional=(), space={"percell": ARC.space_of(percell)})
    sweep = sweep.fix({"recurrent_steps": 2})
    search = OptunaSearcher(SearchSettings.of_sweep(sweep), storage_of(tmp_path))
    assert {search.suggest(str(number))["params"].fields["supervised_steps"] for number in range(9)} == {1, 2}
