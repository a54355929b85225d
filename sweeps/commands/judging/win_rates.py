"""Who wins: win rates with intervals, Bradley-Terry strengths of many checkpoints, and how much the place decides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.commands.judging.verdicts import Verdict
from sweeps.results.statistics import Interval, win_interval

ENOUGH = 30  # judged items; with fewer, an interval is so wide that only a landslide leaves 50 %


@dataclass(frozen=True)
class WinRate:
    """How often one checkpoint beat another, by one judge. `rate` and `interval` in [0, 1], NaN without a verdict."""

    wins: int
    ties: int
    losses: int
    equal: int  # of the ties, those of equal replies: nobody was asked
    unparsed: int  # in no rate: what the judge meant is not known
    interval: Interval

    @property
    def n(self) -> int:
        """Items with a verdict."""
        return self.wins + self.ties + self.losses

    @property
    def rate(self) -> float:
        """Ties count one half."""
        return (self.wins + self.ties / 2) / self.n if self.n else math.nan

    @property
    def p(self) -> float:
        """Of the exact sign test, two-sided, on the items that were won or lost: it holds for a handful of them too."""
        from scipy.stats import binomtest

        decided = self.wins + self.losses
        return float(binomtest(self.wins, decided).pvalue) if decided else 1.0

    def warning(self) -> str:
        """What makes the rate less than it looks; empty if nothing does."""
        said, judged = [], self.n - self.equal
        items = f"{self.n} items"
        if self.equal:
            items = f"{judged} of {items} judged, as the other replies are equal"
        if judged < ENOUGH:
            said.append(f"only {items}, at least {ENOUGH} are needed")
        elif self.equal:
            said.append(items)
        if self.unparsed:
            said.append(f"{self.unparsed} of {self.n + self.unparsed} verdicts could not be read")
        return "; ".join(said)


@dataclass(frozen=True)
class Strength:
    """Log-odds against the average checkpoint, which has 0: `a` beats `b` with probability 1 / (1 + exp(b - a))."""

    checkpoint: str
    strength: float
    low: float
    high: float


@dataclass(frozen=True)
class PositionBias:
    """Shares, in [0, 1], of the `asked` items that were read in both orders; equal replies were never shown."""

    asked: int
    first_shown: float  # A in both orders, whoever that was
    second_shown: float  # B in both orders
    consistent: float  # the same reply in both orders, or a tie in both


def win_rate(verdicts: Sequence[Verdict], checkpoint: str, level: float = 0.95) -> WinRate:
    """How often `checkpoint` won, of one judge's verdicts on one pair, one per item.

    ValueError for several judges or pairs, whose verdicts on an item are not independent, and for an item judged twice.
    """
    if len(groups := {(v.judge, frozenset((v.first, v.second))) for v in verdicts}) > 1:
        raise ValueError(f"a win rate is of one judge and one pair, got {len(groups)}; select their verdicts first")
    _once(verdicts)
    counts = Counter(v.points(checkpoint) for v in verdicts if v.winner != "unparsed")
    wins, ties, losses = counts[1.0], counts[0.5], counts[0.0]
    n = wins + ties + losses
    interval = win_interval(wins, losses, n, level) if n else (math.nan, math.nan)
    equal = sum(not v.rulings for v in verdicts)
    return WinRate(wins, ties, losses, equal, len(verdicts) - n, interval)


def bradley_terry(verdicts: Sequence[Verdict], resamples: int = 1000) -> list[Strength]:
    """Strengths of all checkpoints, the strongest first, with 95 % bootstrap intervals over the items.

    Bradley and Terry 1952, by the iteration of Maystre and Grossglauser 2015 (`choix`); ties are half a win each. Every
    pair that was compared has one more tie, so that strengths stay finite (for two: Haldane 1956). Resampling cannot
    see beyond a checkpoint that won, or lost, all of its items: its interval is open on that side. Several judges'
    verdicts may be pooled, as an item is resampled with all of them. ValueError, by name, if comparisons fall apart.
    """
    _once(verdicts)
    wins_I_K_K, names = _wins(verdicts)
    total_K_K = wins_I_K_K.sum(0)
    compared_K_K = total_K_K + total_K_K.T > 0
    _connected(compared_K_K, names)
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
    """How often the place decided. A fair judge contradicts itself at times too, but towards either place."""
    orders = Counter(tuple(r.winner for r in v.rulings) for v in verdicts if v.rulings and v.winner != "unparsed")
    if not orders:
        return PositionBias(0, math.nan, math.nan, math.nan)
    n = orders.total()
    consistent = sum(orders[pair] for pair in (("A", "B"), ("B", "A"), ("tie", "tie")))
    return PositionBias(n, orders["A", "A"] / n, orders["B", "B"] / n, consistent / n)


def _wins(verdicts: Sequence[Verdict]) -> tuple[np.ndarray, list[str]]:
    """Wins of row over column, per item (items, checkpoints, checkpoints), and the checkpoints' names."""
    read = [v for v in verdicts if v.winner != "unparsed"]
    names = sorted({name for v in verdicts for name in (v.first, v.second)})
    items = {item: place for place, item in enumerate(sorted({v.item for v in read}))}
    wins_I_K_K = np.zeros((len(items), len(names), len(names)))
    for v in read:
        first, second = names.index(v.first), names.index(v.second)
        wins_I_K_K[items[v.item], first, second] += v.points(v.first)
        wins_I_K_K[items[v.item], second, first] += v.points(v.second)
    return wins_I_K_K, names


def _strengths(wins_K_K: np.ndarray) -> np.ndarray:
    import choix

    found_K = choix.ilsr_pairwise_dense(wins_K_K)
    return found_K - found_K.mean()


def _once(verdicts: Sequence[Verdict]) -> None:
    if not verdicts:
        raise ValueError("there are no verdicts to count; judge some replies first")
    twice, count = Counter((v.judge, v.item, frozenset((v.first, v.second))) for v in verdicts).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"{twice[0]} judged item {twice[1]} of {' and '.join(sorted(twice[2]))} {count} times, on other replies;"
            " give the verdicts of one set of replies, as judge_all returns them"
        )


def _connected(compared_K_K: np.ndarray, names: Sequence[str]) -> None:
    from scipy.sparse.csgraph import connected_components

    count, part_K = connected_components(compared_K_K, directed=False)
    if count > 1:
        parts = [", ".join(n for n, part in zip(names, part_K, strict=True) if part == one) for one in range(count)]
        raise ValueError(f"no verdict connects {' with '.join(f'[{p}]' for p in parts)}; judge a pair across them")
