"""How far a score may be off: by hand, against scipy and statsmodels, and by how often intervals hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sweeps.results.statistics import wilson
from sweeps.results.uncertainty import (
    VarianceEstimate,
    combined_error,
    intervals,
    item_error,
    seed_errors,
    weight_of_seeds,
)

RNG = np.random.default_rng(2)


def test_of_items_equals_the_standard_error_of_scipy():
    scores = RNG.random(40)
    assert math.sqrt(item_error(scores).variance) == pytest.approx(stats.sem(scores))
    assert item_error(scores).freedom == 39


def test_of_clusters_by_hand():
    """Three clusters of 2, 1 and 1 items, mean 0.5: sums of what is apart from it are 1, -0.5 and -0.5."""
    error = item_error(np.array([1.0, 1, 0, 0]), ["a", "a", "b", "c"])
    assert error == VarianceEstimate(3 / 2 * 1.5 / 16, 2)


def test_seeds_of_one_configuration_are_students_one_sample_test():
    """Against a base that no seed changes: 60, 64 and 68 % (every item alike) less 50 %."""
    trained, base = np.repeat([[0.60], [0.64], [0.68]], 100, axis=1), np.full((1, 100), 0.5)
    seeds = seed_errors({"trained": trained, "base": base}, untrained=["base"])
    assert seeds["base"] == VarianceEstimate(0.0)
    error = combined_error(
        item_error((trained.mean(0) - base)[0]), [(trained, seeds["trained"]), (base, seeds["base"])]
    )
    ours = 2 * stats.t.sf(0.14 / math.sqrt(error.variance), error.freedom)
    assert ours == pytest.approx(stats.ttest_1samp([0.60, 0.64, 0.68], 0.5).pvalue)


def alike(*spreads, seeds=3):
    """Configurations whose seeds' means have exactly these variances, every item alike."""
    own = np.array([-1.0, 0, 1])[:seeds, None]
    return {str(i): 0.5 + math.sqrt(spread) * own * np.ones((seeds, 50)) for i, spread in enumerate(spreads)}


def test_like_variances_are_pooled_and_unlike_ones_are_not():
    pooled = seed_errors(alike(0.0004, 0.0005, 0.0003))
    assert [error.variance for error in pooled.values()] == pytest.approx([0.0004 / 3] * 3)
    assert {error.freedom for error in pooled.values()} == {6}
    unlike = seed_errors(alike(1e-6, 1e-6, 1e-6, 0.04))
    assert unlike["3"].variance > 0.5 * 0.04 / 3
    assert unlike["0"].variance < 3e-6
    assert unlike["0"].freedom < 3, "the others say next to nothing of it"


def test_two_of_a_pool_have_its_degrees_of_freedom_together_and_of_none_their_own():
    """Alike, two of three seeds each are Student's test with equal variances: 4 degrees. Unlike, Welch's."""
    one, other = alike(0.0004, 0.0004).values()
    seeds = seed_errors({"one": one, "other": other + 0.05})
    error = combined_error(item_error(np.full(50, 0.05)), [(one, seeds["one"]), (other + 0.05, seeds["other"])])
    assert error.freedom == pytest.approx(4)
    ours = 2 * stats.t.sf(0.05 / math.sqrt(error.variance), error.freedom)
    assert ours == pytest.approx(stats.ttest_ind((one + 0.05)[:, 0], one[:, 0]).pvalue)
    apart = [VarianceEstimate(0.02, 2, pool=4), VarianceEstimate(0.01, 2, pool=4)]
    assert weight_of_seeds(apart) == pytest.approx(0.02**2 / 2 + 0.01**2 / 2), "Satterthwaite's"
    assert weight_of_seeds([VarianceEstimate(0.02, 4, pool=4)] * 2) == pytest.approx(0.04**2 / 4)
    assert weight_of_seeds([VarianceEstimate(0.0)]) == 0


def test_single_seeds_borrow_what_is_known_of_others_and_nothing_where_nothing_is():
    known = alike(0.0004, 0.0004) | {"single": np.full((1, 50), 0.5)}
    assert seed_errors(known)["single"] == VarianceEstimate(pytest.approx(0.0004), 4, pool=4)
    assert seed_errors({"a": np.full((1, 50), 0.5), "b": np.ones((1, 50))})["a"] == VarianceEstimate(0.0)


def test_an_interval_without_seeds_or_clusters_is_wilsons():
    scores = (RNG.random((1, 80)) < 0.3).astype(float)
    assert intervals({"one": scores})["one"] == wilson(scores.sum(), 80)
    nothing = intervals({"none": np.zeros((3, 80))})["none"]
    assert nothing == wilson(0, 80), "nothing varies: as sure as so many items make it"
    jumpy = {"none": np.zeros((3, 80)), "all": np.ones((3, 80)), **alike(0.01, 0.04)}
    assert intervals(jumpy)["none"] == wilson(0, 80), "whatever others do"
    assert intervals(jumpy)["all"] == wilson(80, 80)
    clustered = intervals({"none": np.zeros((1, 80))}, clusters=[str(i // 4) for i in range(80)])["none"]
    assert clustered == wilson(0, 20)


@pytest.mark.parametrize(("luck", "copies"), [(0.0, 1), (0.04, 1), (0.04, 5)])
def test_intervals_hold_the_truth(luck, copies):
    """Five configurations of 50 %, three seeds with so much luck, 500 items, each with so many copies among them."""
    inside = []
    for _ in range(60):
        easier = np.repeat(RNG.uniform(-0.35, 0.35, 500 // copies), copies)
        draws = {i: np.repeat(RNG.random((3, 500 // copies)), copies, axis=1) for i in range(5)}
        finals = {str(i): (d < 0.5 + easier + RNG.normal(0, luck, (3, 1))).astype(float) for i, d in draws.items()}
        clusters = [str(i // copies) for i in range(500)] if copies > 1 else []
        inside += [low <= 0.5 <= high for low, high in intervals(finals, clusters).values()]
    assert np.mean(inside) >= 0.9
