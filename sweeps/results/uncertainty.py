"""The error of a mean score: from the sample of items, and from the random seeds of a configuration's training.

Both are combined, as in an analysis of variance of seeds by items. Three seeds give a poor estimate of the variance
between seeds, and configurations differ in it. So the variance of a configuration is shrunk towards those of the
others, the more the more these agree (empirical Bayes: Smyth 2004, Statistical Applications in Genetics 3:3).

Shapes: S seeds, N items, C clusters of items that are not independent of each other. Scores are in [0, 1].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from sweeps.results.statistics import Interval, interval, wilson


@dataclass(frozen=True)
class VarianceEstimate:
    """The variance of a mean, and the degrees of freedom of this estimate, and of all that were pooled for it."""

    variance: float
    freedom: float = math.inf
    pool: float = math.inf


def comparable_means(finalists: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return mean scores by name, from scores (S, N), as if all had been asked the questions of the one with the most.

    Everyone is asked the first N questions. Those that follow may be easier or harder; by how much is known from those
    who were asked them (two-way layout of finalists by questions, without interaction).
    """
    means = {name: np.asarray(one, float).mean(0) for name, one in finalists.items()}
    sizes = sorted({len(one) for one in means.values()})
    found = {}
    for name, own in means.items():
        total = own.sum()
        for begin, end in itertools.pairwise(sizes):
            if len(own) <= begin:
                others = [one for one in means.values() if len(one) >= end]
                harder = np.mean([one[begin:end].mean() - one[: len(own)].mean() for one in others])
                total += (end - begin) * (own.mean() + harder)
        found[name] = float(total / sizes[-1])
    return found


def item_error(scores_N: np.ndarray, clusters: Sequence[str] = ()) -> VarianceEstimate:
    """Estimate the variance of a mean over a sample of items or clusters (linearised: Cochran 1977, chapter 9)."""
    apart = np.asarray(scores_N, float) - np.mean(scores_N)
    if len(clusters):
        _, member = np.unique(np.asarray(clusters), return_inverse=True)
        apart = np.bincount(member, weights=apart)
    count = apart.size
    if count < 2:
        return VarianceEstimate(math.inf, 1)
    return VarianceEstimate(float(count / (count - 1) * (apart**2).sum() / len(scores_N) ** 2), count - 1)


def seed_errors(finalists: Mapping[str, np.ndarray], untrained: Collection[str] = ()) -> dict[str, VarianceEstimate]:
    """Estimate the variance of each mean over seeds, from scores (S, N) by name.

    It is 0 for `untrained` configurations, and for all where none was trained twice.
    """
    known = {name: _between(np.asarray(one, float)) for name, one in finalists.items() if name not in untrained}
    own = {name: found for name, found in known.items() if found.freedom}
    typical, total = _typical(list(own.values())), sum(one.freedom for one in own.values())
    errors = dict.fromkeys(finalists, VarianceEstimate(0.0))
    for name, found in known.items():
        freedom = found.freedom + typical.freedom
        if freedom:
            share = 1.0 if math.isinf(freedom) else typical.freedom / freedom
            variance = share * typical.variance + (1 - share) * found.variance
            errors[name] = VarianceEstimate(variance / len(finalists[name]), min(freedom, total), total)
    return errors


def shared_freedom(finalists: Mapping[str, np.ndarray], untrained: Collection[str] = ()) -> float:
    """Return the degrees of freedom that each configuration's variance between seeds takes from the others: 0 where
    these have little in common, infinity where they agree."""
    between = [_between(np.asarray(one, float)) for name, one in finalists.items() if name not in untrained]
    return _typical([one for one in between if one.freedom]).freedom


def _between(scores_S_N: np.ndarray) -> VarianceEstimate:
    """Estimate the variance of a seed's mean score. The residual variance of answers is a lower bound, as few seeds may
    agree by chance. One seed gives no degrees of freedom."""
    seeds, items = scores_S_N.shape
    if seeds == 1:
        return VarianceEstimate(0.0, 0)
    return VarianceEstimate(
        max(float(scores_S_N.mean(1).var(ddof=1)), residual_variance(scores_S_N) / items), seeds - 1
    )


def residual_variance(scores_S_N: np.ndarray) -> float:
    """Return the residual variance of one answer, beside seed and item effects; 0 for one seed."""
    seeds, items = scores_S_N.shape
    if min(seeds, items) == 1:
        return 0.0
    rest = scores_S_N - scores_S_N.mean(0) - scores_S_N.mean(1, keepdims=True) + scores_S_N.mean()
    return float((rest**2).sum() / ((seeds - 1) * (items - 1)))


def _typical(own: Sequence[VarianceEstimate]) -> VarianceEstimate:
    """Estimate the common variance of several configurations, and its weight for each, in degrees of freedom: 0 where
    their variances have little in common, infinity where they agree (Smyth 2004, section 6.2)."""
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    variances, freedoms = np.array([one.variance for one in own]), np.array([one.freedom for one in own])
    if len(own) < 2:
        return VarianceEstimate(0.0, 0)
    if not variances.any():
        return VarianceEstimate(0.0)
    logs = np.log(np.maximum(variances, 1e-5 * np.median(variances[variances > 0])))
    logs += np.log(freedoms / 2) - digamma(freedoms / 2)
    more = float(logs.var(ddof=1) - polygamma(1, freedoms / 2).mean())  # variance of the logs beyond chance
    if more <= 0:
        return VarianceEstimate(float(np.average(variances, weights=freedoms)))
    half = brentq(lambda x: polygamma(1, x) - more, 1e-6, 1e9)
    return VarianceEstimate(float(np.exp(logs.mean() + digamma(half) - np.log(half))), 2 * half)


def combined_error(items: VarianceEstimate, trained: Sequence[tuple[np.ndarray, VarianceEstimate]]) -> VarianceEstimate:
    """Combine the errors of items and seeds of a mean, or of a difference of means, of configurations (S, N).

    The residual variance of answers is in both errors and counts once; degrees of freedom by Satterthwaite (1946).
    """
    if math.isinf(items.variance):
        return items
    variance = items.variance
    for scores, seeds in trained:
        variance += max(0.0, seeds.variance - residual_variance(np.asarray(scores, float)) / np.size(scores))
    weight = items.variance**2 / items.freedom + weight_of_seeds([seeds for _, seeds in trained])
    return VarianceEstimate(variance, min(max(variance**2 / weight, 1.0), 1e6) if weight else math.inf)


def weight_of_seeds(errors: Sequence[VarianceEstimate]) -> float:
    """Return the sum of squared variances over their degrees of freedom (Satterthwaite 1946), where each is partly
    estimated from the same pool: together they have at most the degrees of freedom of that pool."""
    apart = sum(one.variance**2 / one.freedom for one in errors if one.variance)
    return max(apart, sum(one.variance for one in errors) ** 2 / min((one.pool for one in errors), default=math.inf))


def intervals(
    finalists: Mapping[str, np.ndarray], clusters: Sequence[str] = (), untrained: Collection[str] = ()
) -> dict[str, Interval]:
    """Return 95 % intervals of mean scores, from (S, N) by name, over other items and other seeds.

    They are Wilson's, with the effective number of items (Korn and Graubard 1998, Survey Methodology 24:193).
    """
    seeds = seed_errors(finalists, untrained)
    arrays = {name: np.asarray(one, float) for name, one in finalists.items()}
    return {name: _interval(one, clusters[: one.shape[1]], seeds[name]) for name, one in arrays.items()}


def seed_spread(finalists: Mapping[str, np.ndarray], untrained: Collection[str] = ()) -> VarianceEstimate:
    """Estimate the variance of a configuration's score from seed to seed, on the same items, pooled over all
    configurations (S, N) that were trained more than once. No degrees of freedom: none was."""
    trained = [np.asarray(one, float) for name, one in finalists.items() if name not in untrained and len(one) > 1]
    freedom = sum(len(one) - 1 for one in trained)
    total = sum((len(one) - 1) * float(one.mean(1).var(ddof=1)) for one in trained)
    return VarianceEstimate(total / freedom if freedom else 0.0, freedom)


def clustered_interval(items: Sequence[float], clusters: Sequence[str]) -> Interval:
    """Return the 95 % interval of one mean over clustered items, for a single seed."""
    return _interval(np.asarray([items], float), clusters, VarianceEstimate(0.0))


def _interval(scores_S_N: np.ndarray, clusters: Sequence[str], seeds: VarianceEstimate) -> Interval:
    from scipy.stats import t

    if not seeds.variance and not len(clusters):
        return interval(scores_S_N.mean(0).tolist())
    mean, independent = float(scores_S_N.mean()), len(set(clusters)) or scores_S_N.shape[1]
    error = combined_error(item_error(scores_S_N.mean(0), clusters), [(scores_S_N, seeds)])
    if not error.variance or mean in (0.0, 1.0):  # without variance there is no effective number of items
        return wilson(mean * independent, independent)
    narrower = NormalDist().inv_cdf(0.975) / t.ppf(0.975, error.freedom)
    worth = max(1.0, mean * (1 - mean) / error.variance * narrower**2)
    return wilson(mean * worth, worth)
