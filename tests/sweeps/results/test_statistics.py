"""Intervals against hand-computed values, scipy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_confint

from sweeps.results.statistics import bootstrap_mean, interval, smallest_difference, wilson


def test_wilson_by_hand():
    # z = 1.96, n = 10, p = 0.8: centre 0.71674, half 0.22659 (Wilson 1927).
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0
    assert wilson(0, 20)[1] == pytest.approx(3.8416 / 23.8416, abs=1e-4)  # z^2 / (n + z^2)


@settings(deadline=None)
@given(n=st.integers(1, 2000), data=st.data(), level=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_scipy_and_statsmodels(n, data, level):
    k = data.draw(st.integers(0, n))
    expected = binomtest(k, n).proportion_ci(level, method="wilson")
    assert wilson(k, n, level) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert wilson(k, n, level) == pytest.approx(proportion_confint(k, n, 1 - level, method="wilson"), abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match=f"successes={successes}, n={n}"):
        wilson(successes, n)


def test_a_level_in_percent_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"got 95; use 0\.95"):
        wilson(1, 2, 95)


def test_bootstrap_is_close_to_the_normal_interval_of_a_large_sample():
    items = np.random.default_rng(1).beta(2, 3, 400)
    half = 1.96 * items.std(ddof=1) / 20
    low, high = bootstrap_mean(items.tolist(), seed=0)
    assert (low, high) == pytest.approx((items.mean() - half, items.mean() + half), abs=0.004)
    assert bootstrap_mean(items.tolist(), seed=0) == (low, high)


@pytest.mark.parametrize("items", [[0.3], [0.3] * 50])
def test_bootstrap_of_equal_items_is_the_value(items):
    assert bootstrap_mean(items) == (0.3, 0.3)


def test_bootstrap_of_two_items_stays_within_them():
    assert bootstrap_mean([0.25, 0.75]) == (0.25, 0.75)


def test_interval_takes_wilson_for_right_and_wrong_and_the_bootstrap_for_partial_credit():
    assert interval([1.0, 0.0, 1, 0]) == wilson(2, 4)
    partial = [0.5, 0.0, 1.0, 0.25, 0.75, 0.5]
    assert interval(partial) == bootstrap_mean(partial)
    with pytest.raises(ValueError, match="at least one item"):
        interval([])


@pytest.mark.parametrize(("n", "points"), [(30, 36), (200, 14), (500, 9)])
def test_smallest_difference_that_a_sample_can_show(n, points):
    assert round(100 * smallest_difference(n)) == points
    d = NormalIndPower().solve_power(nobs1=n, alpha=0.05, power=0.8, ratio=1.0)  # in standard deviations, of 1/2
    assert smallest_difference(n) == pytest.approx(d / 2, abs=1e-4)


def test_smallest_difference_is_at_most_everything():
    assert smallest_difference(1) == 1.0
