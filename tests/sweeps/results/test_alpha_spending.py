"""Critical values of group sequential tests, against published tables and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from sweeps.results.alpha_spending import nominal_level, spent_early, spent_late


def critical(spend, times):
    rates = [spend(time, 0.05) for time in times]
    return [norm.isf(nominal_level(times[:k], rates[:k]) / 2) for k in range(1, len(times) + 1)]


def test_critical_values_are_those_of_the_tables():
    """Five equal looks at 5 % two-sided: Lan and DeMets' functions as in `ldbounds` (Casper and Perez, R)."""
    times = [0.2, 0.4, 0.6, 0.8, 1.0]
    assert critical(spent_late, times) == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=0.02)
    assert critical(spent_early, times) == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=0.01)


def test_one_look_has_the_whole_rate():
    assert nominal_level([7.0], [0.05]) == 0.05


def test_looks_at_odd_times_err_as_often_as_they_may():
    rng = np.random.default_rng(0)
    times = np.array([0.1, 0.15, 0.5, 0.55, 1.0])
    rates = [spent_early(used, 0.05) for used in (0.3, 0.4, 0.6, 0.9, 1.0)]  # of money, not of information
    steps = rng.normal(0, np.sqrt(np.diff(times, prepend=0.0)), (200_000, 5))
    statistics = steps.cumsum(1) / np.sqrt(times)
    bounds = np.array([norm.isf(nominal_level(times[:k], rates[:k]) / 2) for k in range(1, 6)])
    crossed = np.maximum.accumulate(np.abs(statistics) >= bounds, axis=1).mean(0)
    assert crossed == pytest.approx(rates, abs=0.002)
