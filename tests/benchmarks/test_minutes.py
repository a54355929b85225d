"""Simulated finalists: a difference that is planted is found, and none is found where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.minutes import DESIGNS, World, winner
from sweeps.tuning.design import design

SWEEP, COSTS, MINUTES = DESIGNS["SmolLM2, 20 minutes"]
OWN = design(replace(SWEEP, minutes=MINUTES), COSTS, 60 * MINUTES)


def test_a_large_difference_is_found_and_equals_are_not_told_apart():
    found = [winner(OWN, COSTS, 2 * OWN.shown, 0.02, seed) for seed in range(12)]
    assert found.count("best") >= 11
    assert [winner(OWN, COSTS, 0.0, 0.02, seed) for seed in range(12)].count("") >= 11


def test_answers_have_the_means_and_the_luck_that_were_planted():
    world = World({"a": 0.7, "b": 0.4}, 2000, 0.0, np.random.default_rng(0))
    scores = world.scores({"a": (3, 2000), "b": (2, 500)})
    assert scores["a"].shape == (3, 2000)
    assert abs(scores["a"].mean() - 0.7) < 0.03
    assert abs(scores["b"].mean() - 0.4) < 0.05
    assert (world.scores({"a": (1, 100)})["a"] == scores["a"][:1, :100]).all(), "drawn once"
    agree = np.corrcoef(scores["a"][0], scores["a"][1])[0, 1]
    other = np.corrcoef(scores["a"][0, :500], scores["b"][0])[0, 1]
    assert 0.1 < other < agree < 0.55, "seeds of one configuration agree more than configurations do"
    lucky = World({"a": 0.5}, 2000, 0.1, np.random.default_rng(0)).scores({"a": (12, 2000)})["a"]
    assert 0.06 < lucky.mean(1).std(ddof=1) < 0.16
