"""Whether judges agree beyond chance: Krippendorff's alpha.

Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section E: any number of judges, missing ratings. 1
is perfect agreement, 0 what chance gives, less is worse. He asks for 0.8, or 0.667 for tentative conclusions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sweeps.results.verdicts import Verdict

Level = Literal["nominal", "ordinal"]


@dataclass(frozen=True)
class Agreement:
    """Alpha with its 95 % bootstrap interval over the items, of so many judges; NaN where alpha is undefined."""

    alpha: float
    low: float
    high: float
    judges: int
    items: int  # verdicts on one item and pair of checkpoints that at least two judges gave


def krippendorff_alpha(ratings: Sequence[Sequence[float]] | np.ndarray, level: Level = "nominal") -> float:
    """Alpha of ratings (judges, units), NaN where a judge gave none. `ordinal` weighs how far apart two ratings are.

    NaN if no unit has two ratings, or if all are the same: there is then no disagreement that chance could explain.
    """
    ratings_J_U = np.asarray(ratings, float)
    values = np.unique(ratings_J_U[~np.isnan(ratings_J_U)])
    return _alpha(np.stack([(ratings_J_U == value).sum(0) for value in values], 1) if len(values) else None, level)


def _alpha(counts_U_V: np.ndarray | None, level: Level) -> float:
    """From how many judges gave each value to each unit. (Capitals: J judges, U units, V values in order.)"""
    if counts_U_V is None:
        return math.nan
    counts_U_V = counts_U_V[counts_U_V.sum(1) >= 2].astype(float)  # a lone rating pairs with nothing
    pairs_V_V = (counts_U_V / (counts_U_V.sum(1, keepdims=True) - 1)).T @ counts_U_V
    pairs_V_V -= np.diag((counts_U_V / (counts_U_V.sum(1, keepdims=True) - 1)).sum(0))  # nobody pairs with himself
    total_V = pairs_V_V.sum(0)
    place_V = np.cumsum(total_V) - total_V / 2 if level == "ordinal" else np.arange(len(total_V))
    distance_V_V = np.subtract.outer(place_V, place_V) ** 2
    if level == "nominal":
        distance_V_V = (distance_V_V > 0).astype(float)
    expected = (np.outer(total_V, total_V) * distance_V_V).sum()
    if expected == 0:
        return math.nan
    return float(1 - (total_V.sum() - 1) * (pairs_V_V * distance_V_V).sum() / expected)


def agreement(verdicts: Sequence[Verdict], level: Level = "ordinal", resamples: int = 1000) -> Agreement:
    """Alpha between the judges of the same replies; unparsed verdicts are missing ratings. Equal replies are left out:
    nobody was asked about them, and all judges would seem to agree.

    Units are items with a pair of checkpoints, and the interval resamples items, as one item's pairs are not
    independent. Ordinal by default: loss < tie < win.
    """
    judges = {v.judge for v in verdicts}
    verdicts = [v for v in verdicts if v.rulings]
    units = sorted({(v.item, *sorted((v.first, v.second)), v.said) for v in verdicts})
    places = {unit: place for place, unit in enumerate(units)}
    counts_U_V = np.zeros((len(units), 3), int)
    for v in verdicts:
        one, other = sorted((v.first, v.second))
        if not math.isnan(points := v.points(one)):
            counts_U_V[places[v.item, one, other, v.said], int(2 * points)] += 1
    items, member_U = np.unique([unit[0] for unit in units], return_inverse=True)
    rng, found = np.random.default_rng(0), []
    for _ in range(resamples if len(judges) > 1 and units else 0):
        drawn_I = np.bincount(rng.integers(len(items), size=len(items)), minlength=len(items))
        found.append(_alpha(np.repeat(counts_U_V, drawn_I[member_U], axis=0), level))
    known = [alpha for alpha in found if not math.isnan(alpha)]
    low, high = np.quantile(known, (0.025, 0.975)) if known else (math.nan, math.nan)
    shared = int((counts_U_V.sum(1) >= 2).sum())
    return Agreement(_alpha(counts_U_V, level), float(low), float(high), len(judges), shared)
