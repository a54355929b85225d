"""Confidence intervals of scores, and the smallest difference that a sample can show. Scores are in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from statistics import NormalDist

import numpy as np

Interval = tuple[float, float]


def wilson(successes: float, n: float, level: float = 0.95) -> Interval:
    """Two-sided Wilson score interval for a proportion of `n` items (Wilson 1927, JASA 22:209).

    `successes` may be fractional, which scipy's `binomtest` refuses: partial credit in [0, 1] varies less than a
    coin of the same mean, so the interval is then on the safe side. Raises ValueError for impossible counts.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"wilson needs 0 <= successes <= n and n >= 1, got successes={successes}, n={n}")
    z, p = _z(level), successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 and n the bound is exact; rounding would leave 1e-17 there.
    return (0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half)


def bootstrap_mean(items: Sequence[float], seed: int = 0, level: float = 0.95) -> Interval:
    """Bootstrap interval of the mean (BCa, Efron 1987), deterministic for a seed. Raises ValueError without items.

    Percentile for fewer than 5 items, where the jackknife of BCa says nothing, and for more than 1,000, where it
    changes nothing and needs n^2 memory. Equal items have no spread to resample: the interval is then the value itself.
    """
    values = np.asarray(items, dtype=float)
    if values.size == 0:
        raise ValueError("bootstrap_mean needs at least one item, got none")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    from scipy import stats  # 1 s to import, needed for partial credit only

    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=2000,
        confidence_level=level,
        method="BCa" if 5 <= values.size <= 1000 else "percentile",
        batch=100,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


@lru_cache(maxsize=8192)
def _interval(items: tuple[float, ...], level: float) -> Interval:
    if all(item in (0, 1) for item in items):
        return wilson(sum(items), len(items), level)
    return bootstrap_mean(items, seed=0, level=level)


def interval(items: Sequence[float], level: float = 0.95) -> Interval:
    """Interval of the mean of per-item scores: Wilson if every item is 0 or 1, else bootstrap (cached)."""
    if len(items) == 0:
        raise ValueError("an interval needs at least one item, got none")
    return _interval(tuple(float(item) for item in items), level)


def win_interval(wins: int, losses: int, n: int, level: float = 0.95) -> Interval:
    """Two-sided interval for (wins + ties / 2) / n of `n` items that were won, lost or tied.

    Tango's score interval for a difference of paired proportions (1998, Statistics in Medicine 17:891), moved from
    wins - losses to [0, 1]. Without ties it is Wilson's; ties make it narrower, but never, as with a bootstrap, empty
    when all items end alike. Raises ValueError for impossible counts.
    """
    if n < 1 or min(wins, losses) < 0 or wins + losses > n:
        raise ValueError(f"a win interval needs 0 <= wins + losses <= n, n >= 1; got {wins}, {losses}, n={n}")
    low, high = _tango_low(wins, losses, n, _z(level)), -_tango_low(losses, wins, n, _z(level))
    return (1 + low) / 2, (1 + high) / 2


def _tango_low(wins: int, losses: int, n: int, z: float) -> float:
    """The smallest difference of winning and losing that is within `z` standard errors of the one seen."""
    from scipy.optimize import brentq

    def beyond(difference: float) -> float:
        b = (2 * n - wins + losses) * difference - wins - losses
        c = losses * difference * (1 - difference)
        lose = (sqrt(b * b + 8 * n * c) - b) / (4 * n)  # most likely, given the difference
        return wins - losses - n * difference - z * sqrt(max(0.0, n * (2 * lose + difference * (1 - difference))))

    if losses == n:
        return -1.0
    return float(brentq(beyond, -1.0, (wins - losses) / n - 1e-9))


def smallest_difference(n: int, power: float = 0.8, level: float = 0.95) -> float:
    """The smallest difference between two proportions, measured on `n` items each, that is found with `power`.

    Unpaired and two-sided, at the worst case p = 1/2 (Cohen 1988, chapter 6, without the arcsine):
    (z_level + z_power) * sqrt(2 p (1 - p) / n). At most 1. Raises ValueError if n < 1 or power is not in (0, 1).
    """
    if n < 1 or not 0 < power < 1:
        raise ValueError(f"smallest_difference needs n >= 1 and 0 < power < 1, got n={n}, power={power}")
    return min(1.0, (_z(level) + NormalDist().inv_cdf(power)) * sqrt(0.5 / n))


def _z(level: float) -> float:
    """Two-sided quantile of the standard normal: 1.96 for 0.95."""
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, got {level}; use 0.95 for 95 %")
    return NormalDist().inv_cdf((1 + level) / 2)
