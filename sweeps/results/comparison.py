"""Tests which finalists differ: paired by item, with the variance between seeds, corrected for the whole table.

A finalist is an array (seeds, items) of scores in [0, 1]: one configuration, trained with several seeds, on the same
items of the test split. Two things make equal configurations differ: the sample of items, and the random seeds of
training. A difference counts only beyond both (`uncertainty.py`). The best of several has also been the luckiest, so
p-values are corrected for that, too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from sweeps.results.alpha_spending import nominal_level
from sweeps.results.statistics import Interval
from sweeps.results.uncertainty import VarianceEstimate, combined_error, comparable_means, item_error, seed_errors

LEVEL = 0.05
FLIPS = 4000  # of the randomisation test: p is known to about 0.003 where it matters


@dataclass(frozen=True)
class Look:
    """A comparison of finalists before all of their scores were known.

    `rate`: the two-sided error rate spent up to this look; `base_rate`: that of pairs with an untouched base, which
    differ much or not at all. `sizes`: by name, how many seeds and how many questions each finalist had then; they are
    the first rows and columns of its scores.
    """

    rate: float
    base_rate: float
    sizes: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Comparison:
    """Two finalists by name, and the difference of their scores (first minus second).

    `p` is corrected for all pairs, `alone` is that of this pair, and so is the 95 % interval. All hold at all looks.
    `by_itself` is the interval that the last look alone would give, as those of scores are.
    """

    first: str
    second: str
    difference: float
    p: float
    alone: float
    interval: Interval
    by_itself: Interval

    def in_points(self) -> str:
        """Format the difference and its intervals: `+1.6 points, 95 % interval -1.0 to 4.2, for all stages together
        -1.6 to 4.8`. The second one is that of the verdict; it is left out if it is the first."""
        alone, together = (
            "{:.1f} to {:.1f}".format(*(100 * end for end in ends)) for ends in (self.by_itself, self.interval)
        )
        stages = f", for all stages together {together}" if together != alone else ""
        return f"{100 * self.difference:+.1f} points, 95 % interval {alone}{stages}"


def mcnemar(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided exact p-value of McNemar's test on right and wrong answers to the same items.

    McNemar 1947, in its exact form: a binomial test on the items where just one of them is right.
    """
    from scipy.stats import binomtest

    a, b = np.asarray(first, bool), np.asarray(second, bool)
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def paired(first: Sequence[float], second: Sequence[float], clusters: Sequence[str] = ()) -> float:
    """Two-sided p-value of the mean difference between paired item scores.

    Exact McNemar for right and wrong; else a randomisation test that swaps whole clusters (Fisher 1935) with a fixed
    seed. Where no swap is as far apart, p is at most Hoeffding's bound (1963), which has no smallest value: p-values
    are corrected for hundreds of pairs. `clusters` names the cluster of each item, where items are not independent.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"paired scores need the same items, at least one; got {a.size} and {b.size}")
    if not len(clusters) and np.isin(np.concatenate([a, b]), (0.0, 1.0)).all():
        return mcnemar(first, second)
    difference = a - b
    if len(clusters):
        _, member = np.unique(np.asarray(clusters), return_inverse=True)
        difference = np.bincount(member, weights=difference)
    swapped = _signs(difference.size) @ difference.astype(np.float32)
    beyond = int((np.abs(swapped) >= abs(difference.sum()) - 1e-4).sum())
    bound = 1.0 if beyond else 2 * math.exp(-(difference.sum() ** 2) / (2 * (difference**2).sum()))
    return min((1 + beyond) / (1 + FLIPS), bound)


@lru_cache(maxsize=1)
def _signs(size: int) -> np.ndarray:
    """Return (FLIPS, size) of -1 and 1, equal ones for every pair of a table."""
    return np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (FLIPS, size))


def t_test(difference: float, error: VarianceEstimate) -> float:
    """Two-sided p-value of a difference by Student's t."""
    from scipy.stats import t

    if error.variance == 0:
        return 0.0 if difference else 1.0
    return float(2 * t.sf(abs(difference) / math.sqrt(error.variance), error.freedom))


def count_pairs(counts: Sequence[int]) -> int:
    """Count the pairs of scores of different trials, where each trial has so many scores."""
    return (sum(counts) ** 2 - sum(count**2 for count in counts)) // 2


def corrected(raw: Sequence[float], counts: Sequence[int] = ()) -> list[float]:
    """Correct p-values of the best against each of the others for the number of trials, and for choosing the best.

    Any pair of K equal configurations might turn out to be the best and another, so the smallest is one of
    K (K - 1) / 2 (Sidak 1967). Once that one differs, K - 1 are left, and so on (step-down: Holm 1979).
    `counts`: the number of rounds of which each score is the best, the best trial's first.
    """
    first, *left = counts or [1] * (len(raw) + 1)
    adjusted, largest, order = [1.0] * len(raw), 0.0, np.argsort(raw, kind="stable")
    for place, index in enumerate(order):
        pairs = count_pairs([first, *(left[other] for other in order[place:])])
        largest = max(largest, -math.expm1(pairs * math.log1p(-min(raw[index], 1 - 1e-12))))
        adjusted[index] = largest
    return adjusted


def compare(
    finalists: Mapping[str, np.ndarray],
    clusters: Sequence[str] = (),
    untrained: Collection[str] = (),
    reference: str | None = None,
    looks: Sequence[Look] = (),
) -> list[Comparison]:
    """Compare the best, or a `reference` by name, with each of the others, the best first; p-values hold jointly.

    `finalists` are scores (S, N) by name; S and N may differ, and the first min(N) questions of a pair are compared.
    `untrained` names configurations without a random seed, or with one for each question. No p-value is below the exact
    one of the pair's items.
    `looks`: how the scores came, if finalists got more seeds and questions after comparisons; the last has all of them.
    """
    arrays = {name: np.asarray(scores, float) for name, scores in finalists.items()}
    means = comparable_means(arrays)
    names = sorted(arrays, key=lambda name: -means[name])
    best = reference or next(iter(names), "")
    looks = looks or [Look(LEVEL, LEVEL, {name: scores.shape for name, scores in arrays.items()})]
    slices = [_Slice(arrays, look, clusters, untrained) for look in looks]
    found = [_over_looks(slices, best, name) for name in names if name != best]
    if reference is None:  # a best one that was worse on the questions of both is not better
        found = [one if one.difference > 0 else replace(one, alone=1.0) for one in found]
    alone = [one.alone for one in found]
    # That the best is better than all others needs no correction: it is wrong only if the pair with another best one is
    # (intersection-union test: Berger 1982, Technometrics 24:295). With one look, the few seeds of an unstable
    # configuration may have been lucky together; later looks are at a leader that got further seeds.
    # Without seeds there is no such luck.
    steady = len(looks) > 1 or not arrays.keys() - {*untrained}
    together = max(alone, default=1.0) if reference is None and steady else 1.0
    ps = [min(p, together) if together < LEVEL else p for p in corrected(alone)]
    return [replace(one, p=p) for one, p in zip(found, ps, strict=True)]


class _Slice:
    """The scores of all finalists at a look."""

    def __init__(
        self, arrays: Mapping[str, np.ndarray], look: Look, clusters: Sequence[str], untrained: Collection[str]
    ) -> None:
        self._look, self._clusters, self._untrained = look, clusters, untrained
        sizes = {name: size for name, size in look.sizes.items() if name in arrays}  # others were lost since
        self.scores = {name: arrays[name][:seeds, :items] for name, (seeds, items) in sizes.items()}
        self._seeds = seed_errors(self.scores, untrained)

    def difference(self, first: str, second: str) -> tuple[float, VarianceEstimate]:
        """Return the difference of two finalists on the questions that both were asked, and its error."""
        one, other = self._pair(first, second)
        items = item_error(one.mean(0) - other.mean(0), self._clusters[: one.shape[1]])
        error = combined_error(items, [(one, self._seeds[first]), (other, self._seeds[second])])
        return float(one.mean() - other.mean()), error

    def rate(self, first: str, second: str) -> float:
        """Return the error rate that a pair may have spent up to this look."""
        return self._look.base_rate if {first, second} & {*self._untrained} else self._look.rate

    def exact(self, first: str, second: str) -> float:
        """Return the exact p-value of the pair's items, as if there were no other seeds."""
        one, other = self._pair(first, second)
        return paired(one.mean(0), other.mean(0), self._clusters[: one.shape[1]])

    def _pair(self, first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
        one, other = self.scores[first], self.scores[second]
        asked = min(one.shape[1], other.shape[1])
        return one[:, :asked], other[:, :asked]


def _over_looks(slices: Sequence[_Slice], first: str, second: str) -> Comparison:
    """Compare a pair at all looks. Its p-value, not yet corrected for other pairs, is the smallest of them, each scaled
    by what its look may spend. Looks at which the second was ahead do not count."""
    known = [one for one in slices if first in one.scores and second in one.scores]
    found = [one.difference(first, second) for one in known]
    information = [1 / error.variance if error.variance else 1e12 for _, error in found]
    smallest, level = 1.0, LEVEL
    for place, (one, (difference, error)) in enumerate(zip(known, found, strict=True), start=1):
        p = t_test(difference, error)
        last = place == len(found)
        if not last and (p >= LEVEL or (difference > 0) != (found[-1][0] > 0)):
            continue
        level = nominal_level(information[:place], [each.rate(first, second) for each in known[:place]])
        scale = LEVEL / level if level > 0 else math.inf
        if p * scale < LEVEL:
            p = max(p, one.exact(first, second))
        smallest = min(smallest, p * scale)
    difference, error = found[-1]
    interval, by_itself = (_interval(difference, error, each) for each in (level, LEVEL))
    return Comparison(first, second, difference, smallest, smallest, interval, by_itself)


def _interval(difference: float, error: VarianceEstimate, level: float) -> Interval:
    """Return where the difference lies, but for a two-sided error rate of `level`; within [-1, 1]."""
    from scipy.stats import t

    reach = float(t.isf(level / 2, error.freedom)) * math.sqrt(error.variance)
    return max(-1.0, difference - reach), min(1.0, difference + reach)


def first_group(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the best finalist and all that do not differ from it, in order of score."""
    if not comparisons:
        return []
    return [comparisons[0].first, *(c.second for c in comparisons if c.p >= LEVEL)]


def in_words(comparisons: Sequence[Comparison], n: int | str) -> str:
    """Say whether the best is better than all others, or which ones `n` items and these seeds cannot tell apart; with
    the difference from the next and its 95 % interval."""
    group = first_group(comparisons)
    if not group:
        return ""
    nearest = comparisons[0]
    apart = nearest.in_points()
    if len(group) == 1:
        p = max(one.p for one in comparisons)
        next_one = f"the next is {nearest.second}: {apart}"
        return f"{group[0]} is better than all other finalists ({next_one}; n={n}, p <= {p:.2g})"
    p = min(one.p for one in comparisons if one.second in group)
    return f"{', '.join(group)} are indistinguishable (first from second {apart}; n={n}, p >= {p:.2g})"
