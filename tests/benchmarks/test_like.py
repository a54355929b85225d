"""What an earlier sweep saves, on planted recordings: where the same settings are good, and where it misleads."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.curves import Curves
from benchmarks.like import BOTH, COLD, Job, costs, earlier_trials, saved
from sweeps.spec.warm_start import observed
from tests.benchmarks.test_search import planted


@pytest.fixture(scope="module")
def peaked(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    """Good in a narrow part of the range: few random configurations are."""
    rates = np.linspace(0, 1, 300)
    height = 0.4 + 0.5 * np.exp(-(((rates - 0.3) / 0.02) ** 2))
    scores = height[:, None] * np.linspace(0.7, 1, 8)
    return planted(tmp_path_factory.mktemp("curves"), scores)


def test_an_earlier_sweep_that_knows_where_to_look_saves_most_of_the_cost(peaked: Curves) -> None:
    found = costs(Job(peaked, peaked, 2, misled=False))
    assert found[BOTH] < 0.6 * found[COLD]
    misled = costs(Job(peaked, peaked, 2, misled=True))
    assert misled[COLD] == found[COLD]
    assert misled[BOTH] > found[BOTH]


def test_trials_of_the_earlier_sweep_are_observations_with_their_configurations(peaked: Curves) -> None:
    trials = earlier_trials(peaked, 0, misled=False)
    seen = observed("", peaked.space, trials)
    assert len(seen) == len(trials) > 30
    assert abs(seen[0].params.fields["rate"] - 0.3) < 0.05
    turned = observed("", peaked.space, earlier_trials(peaked, 0, misled=True))
    assert abs(turned[0].params.fields["rate"] - 0.3) > 0.05


def test_what_is_saved_by_hand() -> None:
    found = [{COLD: 0.4, BOTH: 0.1}, {COLD: 0.2, BOTH: 0.2}, {COLD: 0.4, BOTH: 0.2}]
    assert saved(found, ["a", "a", "a"], BOTH) == "50% [50%, 50%]", "one recording has no interval"
