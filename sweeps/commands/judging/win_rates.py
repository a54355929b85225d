"""Statistics of verdicts: win rates with intervals, Bradley-Terry strengths, and position bias."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.commands.judging.verdicts import Verdict
from sweeps.results.statistics import Interval, win_interval

ENOUGH = 30  # judged items; with fewer, the interval excludes 50 % only if one checkpoint wins nearly always


@dataclass(frozen=True)
class WinRate:
    """The win rate of one checkpoint against another, by one judge. `rate` and `interval` are in [0, 1], or NaN."""

    wins: int
    ties: int
    losses: int
    equal: int  # ties because the replies are equal; no judge saw them
    unparsed: int  # counted in no rate
    interval: Interval

    @property
    def n(self) -> int:
        """Return the number of items with a verdict."""
        return self.wins + self.ties + self.losses

    @property
    def rate(self) -> float:
        """Return the win rate. A tie counts one half; NaN without a verdict."""
        return (self.wins + self.ties / 2) / self.n if self.n else math.nan

    @property
    def p(self) -> float:
        """Return the two-sided p-value of the exact sign test on the items that were won or lost."""
        from scipy.stats import binomtest

        decided = self.wins + self.losses
        return float(binomtest(self.wins, decided).pvalue) if decided else 1.0

    def warning(self) -> str:
        """Return what limits the evidence behind the rate, or an empty string."""
        remarks, judged = [], self.n - self.equal
        items = f"{self.n} items"
        if self.equal:
            items = f"{judged} of {items} judged, as the other replies are equal"
        if judged < ENOUGH:
            remarks.append(f"only {items}, at least {ENOUGH} are needed")
        elif self.equal:
            remarks.append(items)
        if self.unparsed:
            remarks.append(f"{self.unparsed} of {self.n + self.unparsed} verdicts could not be parsed")
        return "; ".join(remarks)


@dataclass(frozen=True)
class Strength:
    """A Bradley-Terry strength, in log-odds. The mean is 0; `a` beats `b` with probability 1 / (1 + exp(b - a))."""

    checkpoint: str
    strength: float
    low: float
    high: float


@dataclass(frozen=True)
class PositionBias:
    """Shares, in [0, 1], of the `n` items with two parsed rulings. Equal replies are not among them."""

    n: int
    first_shown: float  # the reply shown first won in both orders
    second_shown: float  # the reply shown second won in both orders
    consistent: float  # the same reply won in both orders, or both orders were a tie


def win_rate(verdicts: Sequence[Verdict], checkpoint: str, level: float = 0.95) -> WinRate:
    """Return the win rate of `checkpoint`, given one judge's verdicts on one pair, one per item.

    Raise ValueError for an item judged twice, and for several judges or pairs, because their verdicts on one item are
    not independent.
    """
    if len(groups := {(v.judge, frozenset((v.first, v.second))) for v in verdicts}) > 1:
        raise ValueError(
            f"a win rate needs the verdicts of one judge on one pair, got {len(groups)}; select them first"
        )
    _check_judged_once(verdicts)
    counts = Counter(v.points(checkpoint) for v in verdicts if v.winner != "unparsed")
    wins, ties, losses = counts[1.0], counts[0.5], counts[0.0]
    n = wins + ties + losses
    interval = win_interval(wins, losses, n, level) if n else (math.nan, math.nan)
    equal = sum(not v.rulings for v in verdicts)
    return WinRate(wins, ties, losses, equal, len(verdicts) - n, interval)


def bradley_terry(verdicts: Sequence[Verdict], resamples: int = 1000) -> list[Strength]:
    """Return the strengths of all checkpoints, the strongest first, with 95 % bootstrap intervals over the items.

    Bradley and Terry (1952), fitted with the iteration of Maystre and Grossglauser (2015) from `choix`. A tie is half a
    win for each. Every pair that was compared gets one more tie, so that strengths stay finite (for two: Haldane 1956).
    If a checkpoint won, or lost, all of its items, resampling cannot bound its strength: its interval is open on that
    side. The verdicts of several judges may be pooled, because an item is resampled with all of its verdicts. Raise
    ValueError if the comparisons do not connect all checkpoints.
    """
    _check_judged_once(verdicts)
    wins_I_K_K, names = _wins(verdicts)
    total_K_K = wins_I_K_K.sum(0)
    compared_K_K = total_K_K + total_K_K.T > 0
    _check_connected(compared_K_K, names)
    strengths = _strengths(total_K_K + compared_K_K / 2)
    rng, n = np.random.default_rng(0), len(wins_I_K_K)
    drawn_R_I = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    totals = np.einsum("ri,ijk->rjk", drawn_R_I, wins_I_K_K, optimize=True)
    low, high = np.quantile([_strengths(total + compared_K_K / 2) for total in totals], (0.025, 0.975), axis=0)
    low = np.where(total_K_K.sum(1) == 0, -math.inf, low)
    high = np.where(total_K_K.sum(0) == 0, math.inf, high)
    found = [Strength(*one) for one in zip(names, strengths.tolist(), low.tolist(), high.tolist(), strict=True)]
    return sorted(found, key=lambda one: -one.strength)


def position_bias(verdicts: Sequence[Verdict]) -> PositionBias:
    """Return how often the position decided. An unbiased judge contradicts itself too, but equally to both sides."""
    orders = Counter(tuple(r.winner for r in v.rulings) for v in verdicts if v.rulings and v.winner != "unparsed")
    if not orders:
        return PositionBias(0, math.nan, math.nan, math.nan)
    n = orders.total()
    consistent = sum(orders[pair] for pair in (("A", "B"), ("B", "A"), ("tie", "tie")))
    return PositionBias(n, orders["A", "A"] / n, orders["B", "B"] / n, consistent / n)


def _wins(verdicts: Sequence[Verdict]) -> tuple[np.ndarray, list[str]]:
    """Return wins of row over column, shape (items, checkpoints, checkpoints), and the checkpoints' names."""
    parsed = [v for v in verdicts if v.winner != "unparsed"]
    names = sorted({name for v in verdicts for name in (v.first, v.second)})
    items = {item: place for place, item in enumerate(sorted({v.item for v in parsed}))}
    wins_I_K_K = np.zeros((len(items), len(names), len(names)))
    for v in parsed:
        first, second = names.index(v.first), names.index(v.second)
        wins_I_K_K[items[v.item], first, second] += v.points(v.first)
        wins_I_K_K[items[v.item], second, first] += v.points(v.second)
    return wins_I_K_K, names


def _strengths(wins_K_K: np.ndarray) -> np.ndarray:
    import choix

    found_K = choix.ilsr_pairwise_dense(wins_K_K)
    return found_K - found_K.mean()


def _check_judged_once(verdicts: Sequence[Verdict]) -> None:
    if not verdicts:
        raise ValueError("there are no verdicts to count; judge some replies first")
    twice, count = Counter((v.judge, v.item, frozenset((v.first, v.second))) for v in verdicts).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"{twice[0]} judged item {twice[1]} of {' and '.join(sorted(twice[2]))} {count} times, on other replies;"
            " give the verdicts of one set of replies, as judge_all returns them"
        )


def _check_connected(compared_K_K: np.ndarray, names: Sequence[str]) -> None:
    from scipy.sparse.csgraph import connected_components

    count, part_K = connected_components(compared_K_K, directed=False)
    if count > 1:
        parts = [", ".join(n for n, part in zip(names, part_K, strict=True) if part == one) for one in range(count)]
        raise ValueError(f"no verdict connects {' with '.join(f'[{p}]' for p in parts)}; judge a pair across them")
