"""Which of several finalists can be told apart: paired by item, aware of seeds, corrected for the whole table.

A finalist is an array (seeds, items) of scores in [0, 1]: one configuration, trained with several seeds, on the same
items of the test split. Two things make equal configurations differ: which items were asked, and how training went.
Both together must not explain a difference (`uncertainty.py`). And the best of several is the luckiest: p-values are
corrected for that, too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sweeps.results.uncertainty import Error, of_both, of_items, of_seeds

LEVEL = 0.05
FLIPS = 4000  # of the randomisation test: p is known to about 0.003 where it matters


@dataclass(frozen=True)
class Comparison:
    """A pair of finalists by name: first less second (points of score), and its p-value within the whole table."""

    first: str
    second: str
    difference: float
    p: float


def mcnemar(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided exact p-value that two sets of right and wrong answers to the same items differ by chance only.

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

    Exact McNemar for right and wrong; else a randomisation test that swaps whole clusters (Fisher 1935), the same for
    the same items. `clusters` names what each item belongs to, where items are not independent.
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
    beyond = np.abs(swapped) >= abs(difference.sum()) - 1e-4
    return float((1 + beyond.sum()) / (1 + FLIPS))


@lru_cache(maxsize=1)
def _signs(size: int) -> np.ndarray:
    """(FLIPS, size) of -1 and 1, the same ones for every pair of a table."""
    return np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (FLIPS, size))


def beyond_luck(difference: float, error: Error) -> float:
    """Two-sided p-value of a difference by Student's t."""
    from scipy.stats import t

    if error.variance == 0:
        return 0.0 if difference else 1.0
    return float(2 * t.sf(abs(difference) / math.sqrt(error.variance), error.freedom))


def pairs_of(counts: Sequence[int]) -> int:
    """How many pairs of scores there are, if each of several has so many; none pairs with another of its own."""
    return (sum(counts) ** 2 - sum(count**2 for count in counts)) // 2


def corrected(raw: Sequence[float], counts: Sequence[int] = ()) -> list[float]:
    """p-values of the best against each of the others, corrected for how many there are and for its being the best.

    Any pair of K equal configurations might turn out to be the best and another, so the smallest is one of
    K (K - 1) / 2 (Sidak 1967). Once that one is told apart, K - 1 are left, and so on (step-down: Holm 1979).
    `counts`: where the scores are themselves the best of several rounds, of how many; the best's, then the others'.
    """
    first, *left = counts or [1] * (len(raw) + 1)
    adjusted, largest, order = [1.0] * len(raw), 0.0, np.argsort(raw, kind="stable")
    for place, index in enumerate(order):
        pairs = pairs_of([first, *(left[other] for other in order[place:])])
        largest = max(largest, -math.expm1(pairs * math.log1p(-min(raw[index], 1 - 1e-12))))
        adjusted[index] = largest
    return adjusted


def compare(
    finalists: Mapping[str, np.ndarray],
    clusters: Sequence[str] = (),
    untrained: Collection[str] = (),
    reference: str | None = None,
) -> list[Comparison]:
    """The best, or a `reference` by name, against each of the others, in order of score; p-values hold for all of them
    together.

    `untrained` names those whose scores no seed can change. A p-value is never below the exact one of the pair's items.
    """
    names = sorted(finalists, key=lambda name: -float(np.mean(finalists[name])))
    arrays = {name: np.asarray(finalists[name], float) for name in names}
    seeds = of_seeds(arrays, untrained)
    best = reference or next(iter(names), "")
    others = [name for name in names if name != best]
    differences, raw = [], []
    for name in others:
        first, second = arrays[best], arrays[name]
        differences.append(float(first.mean() - second.mean()))
        items = of_items(first.mean(0) - second.mean(0), clusters)
        error = of_both(items, [(first, seeds[best]), (second, seeds[name])])
        exact = paired(first.mean(0), second.mean(0), clusters)
        raw.append(max(exact, beyond_luck(differences[-1], error)))
    told = zip(others, differences, corrected(raw), strict=True)
    return [Comparison(best, name, difference, p) for name, difference, p in told]


def first_group(comparisons: Sequence[Comparison]) -> list[str]:
    """The best finalist and all that cannot be told from it, in order of score."""
    if not comparisons:
        return []
    return [comparisons[0].first, *(c.second for c in comparisons if c.p >= LEVEL)]


def in_words(comparisons: Sequence[Comparison], n: int | str) -> str:
    """What may be said of the best: alone, or one of several that `n` items and these seeds cannot tell apart."""
    group = first_group(comparisons)
    if not group:
        return ""
    if len(group) == 1:
        return f"{group[0]} is better than all others at n={n} (p <= {max(c.p for c in comparisons):.2g})"
    weakest = min(c.p for c in comparisons if c.second in group)
    return f"{', '.join(group)} are indistinguishable at n={n} (p >= {weakest:.2g})"
