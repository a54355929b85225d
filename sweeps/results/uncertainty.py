"""How far a mean score may be off: by the items that were asked, and by the seeds of a configuration's training.

Both count together, as in an analysis of variance of seeds by items. Three seeds of one configuration say little about
how much luck its training has, and configurations differ in it, so a variance between seeds is moderated by those of
the others as far as these agree (empirical Bayes: Smyth 2004, Statistical Applications in Genetics 3:3).

Shapes: S seeds, N items, C clusters of items that are not independent of each other. Scores are in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from sweeps.results.statistics import Interval, interval, wilson


@dataclass(frozen=True)
class Error:
    """Variance of a mean, and the degrees of freedom with which it is known."""

    variance: float
    freedom: float = math.inf


def of_items(scores_N: np.ndarray, clusters: Sequence[str] = ()) -> Error:
    """Of the mean over items, of which whole clusters were drawn (linearised: Cochran 1977, chapter 9)."""
    apart = np.asarray(scores_N, float) - np.mean(scores_N)
    if len(clusters):
        _, member = np.unique(np.asarray(clusters), return_inverse=True)
        apart = np.bincount(member, weights=apart)
    count = apart.size
    if count < 2:
        return Error(math.inf, 1)
    return Error(float(count / (count - 1) * (apart**2).sum() / len(scores_N) ** 2), count - 1)


def of_seeds(finalists: Mapping[str, np.ndarray], untrained: Collection[str] = ()) -> dict[str, Error]:
    """Of each mean over seeds, from scores (S, N) by name. What was not trained has none, and where nobody was trained
    twice none is known."""
    known = {name: _between(np.asarray(one, float)) for name, one in finalists.items() if name not in untrained}
    own = {name: found for name, found in known.items() if found.freedom}
    typical, all_told = _typical(list(own.values())), sum(one.freedom for one in own.values())
    errors = dict.fromkeys(finalists, Error(0.0))
    for name, found in known.items():
        freedom = found.freedom + typical.freedom
        if freedom:
            share = 1.0 if math.isinf(freedom) else typical.freedom / freedom
            variance = share * typical.variance + (1 - share) * found.variance
            errors[name] = Error(variance / len(finalists[name]), min(freedom, all_told))
    return errors


def _between(scores_S_N: np.ndarray) -> Error:
    """Variance of a seed's mean score; at least what the answers' own scatter makes of it, which seeds may hide by
    chance. No degrees of freedom with one seed."""
    seeds, items = scores_S_N.shape
    if seeds == 1:
        return Error(0.0, 0)
    return Error(max(float(scores_S_N.mean(1).var(ddof=1)), _scatter(scores_S_N) / items), seeds - 1)


def _scatter(scores_S_N: np.ndarray) -> float:
    """Variance of one answer that neither its seed nor its item explains; 0 with one seed, where it cannot be known."""
    seeds, items = scores_S_N.shape
    if min(seeds, items) == 1:
        return 0.0
    rest = scores_S_N - scores_S_N.mean(0) - scores_S_N.mean(1, keepdims=True) + scores_S_N.mean()
    return float((rest**2).sum() / ((seeds - 1) * (items - 1)))


def _typical(own: Sequence[Error]) -> Error:
    """The variance that these vary around, and how many degrees of freedom it is worth to each of them: none where they
    have little to do with each other, infinitely many where they are alike (Smyth 2004, section 6.2)."""
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    variances, freedoms = np.array([one.variance for one in own]), np.array([one.freedom for one in own])
    if len(own) < 2:
        return Error(0.0, 0)
    if not variances.any():
        return Error(0.0)
    logs = np.log(np.maximum(variances, 1e-5 * np.median(variances[variances > 0])))
    logs += np.log(freedoms / 2) - digamma(freedoms / 2)
    more = float(logs.var(ddof=1) - polygamma(1, freedoms / 2).mean())  # than chance makes them differ
    if more <= 0:
        return Error(float(np.average(variances, weights=freedoms)))
    half = brentq(lambda x: polygamma(1, x) - more, 1e-6, 1e9)
    return Error(float(np.exp(logs.mean() + digamma(half) - np.log(half))), 2 * half)


def of_both(items: Error, trained: Sequence[tuple[np.ndarray, Error]]) -> Error:
    """Of a mean, or a difference of means, over items and the seeds of each configuration (S, N) that is part of it.

    The answers' own scatter is in both errors and counts once; degrees of freedom by Satterthwaite (1946).
    """
    if math.isinf(items.variance):
        return items
    variance, weight = items.variance, items.variance**2 / items.freedom
    for scores, seeds in trained:
        variance += max(0.0, seeds.variance - _scatter(np.asarray(scores, float)) / np.size(scores))
        weight += seeds.variance**2 / seeds.freedom
    return Error(variance, min(max(variance**2 / weight, 1.0), 1e6) if weight else math.inf)


def intervals(
    finalists: Mapping[str, np.ndarray], clusters: Sequence[str] = (), untrained: Collection[str] = ()
) -> dict[str, Interval]:
    """95 % intervals of mean scores, from (S, N) by name: what other items and other seeds might have given.

    Wilson's, with as many items as would vary as much (Korn and Graubard 1998, Survey Methodology 24:193).
    """
    seeds = of_seeds(finalists, untrained)
    return {name: _interval(np.asarray(one, float), clusters, seeds[name]) for name, one in finalists.items()}


def of_clusters(items: Sequence[float], clusters: Sequence[str]) -> Interval:
    """The same of one mean, where nothing is known of other seeds."""
    return _interval(np.asarray([items], float), clusters, Error(0.0))


def _interval(scores_S_N: np.ndarray, clusters: Sequence[str], seeds: Error) -> Interval:
    from scipy.stats import t

    if not seeds.variance and not len(clusters):
        return interval(scores_S_N.mean(0).tolist())
    mean, independent = float(scores_S_N.mean()), len(set(clusters)) or scores_S_N.shape[1]
    error = of_both(of_items(scores_S_N.mean(0), clusters), [(scores_S_N, seeds)])
    if not error.variance or mean in (0.0, 1.0):  # where no answer varies, how much others do says nothing
        return wilson(mean * independent, independent)
    narrower = NormalDist().inv_cdf(0.975) / t.ppf(0.975, error.freedom)
    worth = max(1.0, mean * (1 - mean) / error.variance * narrower**2)
    return wilson(mean * worth, worth)
