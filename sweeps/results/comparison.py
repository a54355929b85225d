"""Which of several finalists can be told apart: paired by item, aware of seeds, corrected for the whole table.

A finalist is an array (seeds, items) of scores in [0, 1]: one configuration, trained with several seeds, on the same
items of the test split. Two things make equal configurations differ: which items were asked, and how training went.
A difference counts only if neither explains it, so a p-value is the larger of the two (intersection-union test: Berger
1982). The best is compared with each of the others, and these are corrected together (Benjamini and Hochberg 1995).

Shapes: K finalists, S seeds, N items, C clusters of items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

LEVEL = 0.05
FLIPS = 4000  # of the randomisation test: p is known to about 0.003 where it matters


@dataclass(frozen=True)
class Comparison:
    """A pair of finalists by name: first less second (points of score), and its corrected p-value."""

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


def between_seeds(finalists: Sequence[np.ndarray], first: int, second: int) -> float:
    """Two-sided p-value that two finalists' mean scores differ by more than training does from seed to seed.

    Student's t with the variance of all finalists pooled: three seeds of one alone say little. 1 with single seeds.
    """
    from scipy.stats import t

    means = [np.asarray(one, float).mean(1) for one in finalists]
    freedom = sum(len(one) - 1 for one in means)
    if freedom == 0:
        return 1.0
    variance = sum(((one - one.mean()) ** 2).sum() for one in means) / freedom
    error = np.sqrt(variance * (1 / len(means[first]) + 1 / len(means[second])))
    gap = abs(means[first].mean() - means[second].mean())
    if error == 0:
        return 0.0 if gap else 1.0
    return float(2 * t.sf(gap / error, freedom))


def compare(finalists: Mapping[str, np.ndarray], clusters: Sequence[str] = ()) -> list[Comparison]:
    """The best against each of the others, in order of score; p-values corrected over all of them."""
    from scipy.stats import false_discovery_control

    names = sorted(finalists, key=lambda name: -float(np.mean(finalists[name])))
    arrays = [np.asarray(finalists[name], float) for name in names]
    if len(names) < 2:
        return []
    raw = []
    for other in range(1, len(names)):
        p = paired(arrays[0].mean(0), arrays[other].mean(0), clusters)
        if max(len(arrays[0]), len(arrays[other])) > 1:
            p = max(p, between_seeds(arrays, 0, other))
        raw.append(p)
    return [
        Comparison(names[0], name, float(arrays[0].mean() - array.mean()), float(p))
        for name, array, p in zip(names[1:], arrays[1:], false_discovery_control(raw), strict=True)
    ]


def first_group(comparisons: Sequence[Comparison]) -> list[str]:
    """The best finalist and all that cannot be told from it, in order of score."""
    if not comparisons:
        return []
    return [comparisons[0].first, *(c.second for c in comparisons if c.p >= LEVEL)]


def in_words(comparisons: Sequence[Comparison], n: int) -> str:
    """What may be said of the best: alone, or one of several that `n` items and these seeds cannot tell apart."""
    group = first_group(comparisons)
    if not group:
        return ""
    if len(group) == 1:
        return f"{group[0]} is better than all others at n={n} (p <= {max(c.p for c in comparisons):.2g})"
    weakest = min(c.p for c in comparisons if c.second in group)
    return f"{', '.join(group)} are indistinguishable at n={n} (p >= {weakest:.2g})"
