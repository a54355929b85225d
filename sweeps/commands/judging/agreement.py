"""Whether judges agree beyond chance: Krippendorff's alpha.

Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section E: any number of judges, missing ratings. 1
is perfect agreement, 0 what chance gives, less is worse. He asks for 0.8, or 0.667 for tentative conclusions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import krippendorff
import numpy as np

from sweeps.commands.judging.verdicts import Verdict

Level = Literal["nominal", "ordinal"]


@dataclass(frozen=True)
class Agreement:
    """Alpha with its 95 % bootstrap interval over the items, of so many judges; NaN where alpha is undefined."""

    alpha: float
    low: float
    high: float
    judges: int
    items: int  # verdicts on one item and pair of checkpoints that at least two judges gave


def alpha(counts_U_V: np.ndarray, level: Level) -> float:
    """Alpha from how many judges gave each value to each unit. (Capitals: U units, V values in order.)

    NaN if no unit has two ratings, or if all are the same: there is then no disagreement that chance could explain.
    """
    paired_U_V = counts_U_V[counts_U_V.sum(1) >= 2]  # a lone rating pairs with nothing
    if np.count_nonzero(paired_U_V.sum(0)) < 2:
        return math.nan
    return float(krippendorff.alpha(value_counts=paired_U_V, level_of_measurement=level))


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
        found.append(alpha(np.repeat(counts_U_V, drawn_I[member_U], axis=0), level))
    known = [one for one in found if not math.isnan(one)]
    low, high = np.quantile(known, (0.025, 0.975)) if known else (math.nan, math.nan)
    shared = int((counts_U_V.sum(1) >= 2).sum())
    return Agreement(alpha(counts_U_V, level), float(low), float(high), len(judges), shared)
