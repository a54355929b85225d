"""How likely scores above a level are, from how the best scores so far thin out towards the top.

Scores above a high threshold follow a generalized Pareto distribution (Pickands 1975, Annals of Statistics 3:119). Its
shape and scale are not known, so the chance is averaged over both, each weighted by how well it explains the scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST = 10  # trials of a pair before its chance can be said
TAIL, FEWEST_IN_TAIL, MOST_IN_TAIL = 0.4, 5, 40  # the share of the scores that tell the chance: so many of the best
SHAPES = np.linspace(-1, 0.5, 16)  # -1: scores spread evenly up to a sharp end; 0: exponentially; 0.5: a heavy tail
SCALES = np.geomspace(0.002, 0.5, 40)
APART = 1e-4  # of the lowest excess from the threshold, which has no density of its own


def chance_of_exceeding(scores: Sequence[float], tried: int, level: float, to_come: int) -> float:
    """Return the chance that one of `to_come` further trials scores above `level`.

    `scores` are those of trials like them, in [0, 1]; `tried` counts also those that have none, as they diverged. The
    chance is 1 while too few are known.
    """
    if not to_come:
        return 0.0
    count = min(MOST_IN_TAIL, max(FEWEST_IN_TAIL, round(TAIL * tried)))
    if tried < FEWEST or len(scores) <= count:
        return 1.0
    if level > 1:
        return 0.0
    from scipy.stats import genpareto  # 1 s to import

    *tail, threshold = np.sort(scores)[: -count - 2 : -1]
    shape, scale = np.meshgrid(SHAPES, SCALES)
    excess = np.array(tail)[:, None, None] - threshold + APART
    likelihood = genpareto.logpdf(excess, shape, scale=scale).sum(0)
    weights = np.exp(likelihood - likelihood.max())
    each = count / tried * genpareto.sf(level - threshold, shape, scale=scale)
    return float(np.average(1 - (1 - each) ** to_come, weights=weights))
