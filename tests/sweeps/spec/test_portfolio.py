"""What a sweep tries after the defaults."""

from __future__ import annotations

from dataclasses import replace

import optuna

from search_spaces.portfolios import PORTFOLIOS
from sweeps import arena
from sweeps.results.trial_params import TrialParams
from sweeps.spec.portfolio import portfolio
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
from trainables.learners.lm.lora import LoraConfig

SWEEP = replace(arena.SWEEP, num_samples=24)  # of three learners, so eight trials and two of the portfolio each
GIVEN = PORTFOLIOS["lora"]


def test_rates_are_multiples_of_the_default_and_all_else_is_as_recorded():
    own = [one.fields for one in portfolio(SWEEP) if one.pair == "lora"]
    assert len(own) == 2
    for known, given in zip(own, GIVEN, strict=False):
        assert known == {**given, "learning_rate": given["learning_rate"] * 3e-3}
        SWEEP.resolve(TrialParams("lora", known))
    wide = [replace(pair, learner=LoraConfig(learning_rate=1e-3)) for pair in SWEEP.pairs if pair.name == "lora"]
    alone = replace(SWEEP, pairs=tuple(wide), space=SWEEP.space_of(wide[0]), num_samples=8)
    assert [one.fields["learning_rate"] for one in portfolio(alone)] == [
        1e-3 * one["learning_rate"] for one in GIVEN[:2]
    ]


def test_a_small_sweep_has_none_and_neither_has_one_that_follows_an_earlier_sweep():
    assert portfolio(replace(SWEEP, num_samples=9)) == []
    assert portfolio(replace(SWEEP, first=(TrialParams("lora", {"r": 4}),))) == []


def test_what_a_flag_fixes_stays():
    fixed = SWEEP.fix({"lora.r": 4, "lora.learning_rate": 1e-3})
    for one in portfolio(fixed):
        assert one.fields.get("r", 4) == 4
        assert "learning_rate" not in one.fields or one.pair != "lora"


def test_the_search_tries_it_after_the_defaults():
    searcher = OptunaSearcher(SearchSettings.of_sweep(SWEEP), optuna.storages.InMemoryStorage())
    started = [searcher.suggest(f"trial-{number}")["params"] for number in range(3 + len(portfolio(SWEEP)))]
    assert started[:3] == SWEEP.defaults()
    assert [one.pair for one in started[3:]] == ["lora", "lora"]
    assert [one.fields["learning_rate"] for one in started[3:]] == [3e-3 * one["learning_rate"] for one in GIVEN[:2]]
