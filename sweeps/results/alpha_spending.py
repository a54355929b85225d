"""How much evidence a look at unfinished results needs, so that all looks together err as rarely as one would.

Finalists are compared several times while seeds and questions are added. The error rate is spent over these looks by a
spending function (Lan and DeMets 1983, Biometrika 70:659). The critical value of a look follows from the joint
distribution of the statistics, which that of a Brownian motion at times of information is (Armitage, McPherson and Rowe
1969, JRSS A 132:235).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

POINTS = np.linspace(-6.0, 6.0, 321)  # of the density, in standard deviations
STEP = float(POINTS[1] - POINTS[0])


def spent_late(fraction: float, level: float) -> float:
    """Return the two-sided error rate that may be spent when this fraction in [0, 1] of the budget is used.

    Of the shape of O'Brien and Fleming 1979: little at first, most of it at the end. So near ones are told apart best.
    """
    from scipy.stats import norm

    if fraction <= 0:
        return 0.0
    return float(4 * norm.sf(norm.isf(level / 4) / np.sqrt(min(fraction, 1.0))))


def spent_early(fraction: float, level: float) -> float:
    """Return what `spent_late` does, of the shape of Pocock 1977: about evenly. So large differences show at once."""
    return level * math.log1p((math.e - 1) * min(max(fraction, 0.0), 1.0))


def nominal_level(information: Sequence[float], rates: Sequence[float]) -> float:
    """Return the two-sided level at which the last of several looks may be tested.

    `information`: the inverse variance of the difference at each look, not decreasing; `rates`: the error rate spent
    up to each look, not decreasing. With one look the level is its rate.
    """
    if len(rates) == 1:
        return rates[0]
    times = np.maximum.accumulate(np.asarray(information, float))
    rounded = tuple(np.round(times / times[-1], 2).tolist())
    return _nominal_level(rounded, tuple(np.round(rates, 6).tolist()))


@lru_cache(maxsize=65536)
def _nominal_level(times: tuple[float, ...], rates: tuple[float, ...]) -> float:
    from scipy.stats import norm

    mass, _ = _distribution(times, rates[:-1])
    due = rates[-1] - (rates[-2] if len(rates) > 1 else 0.0)
    upper = np.append(np.cumsum(mass[::-1])[::-1], 0.0)  # P(beyond the lower edge of each cell), and 0 beyond the last
    edges = np.append(POINTS, POINTS[-1] + STEP) - STEP / 2
    critical = float(np.interp(-due / 2, -upper, edges))
    return float(2 * norm.sf(critical))


@lru_cache(maxsize=65536)
def _distribution(times: tuple[float, ...], rates: tuple[float, ...]) -> tuple[np.ndarray, float]:
    """Return the probabilities (321,) that the last statistic lies near each of `POINTS` and no earlier look ended, and
    the time of the last look. `rates` are those of all looks but the last."""
    from scipy.special import ndtr
    from scipy.stats import norm

    if len(times) == 1:
        mass = norm.pdf(POINTS) * STEP
        return mass / mass.sum(), times[0]
    before, start = _distribution(times[:-1], rates[:-1])
    level = _nominal_level(times[:-1], rates)
    kept = np.where(np.abs(POINTS) < norm.isf(level / 2), before, 0.0)
    more = times[-1] - start
    if more < 1e-3:
        return kept, start
    cells = (POINTS[:, None] * np.sqrt(times[-1]) - POINTS[None, :] * np.sqrt(start)) / np.sqrt(more)
    width = STEP * np.sqrt(times[-1] / more)
    return (ndtr(cells + width / 2) - ndtr(cells - width / 2)) @ kept, times[-1]
