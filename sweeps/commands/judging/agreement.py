"""Inter-rater agreement of the judges: Krippendorff's alpha.

Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section E, for any number of judges and with missing
ratings. 1 is perfect agreement, 0 is chance, below 0 is systematic disagreement. Krippendorff requires 0.8, or 0.667
for tentative conclusions.
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
class JudgeAgreement:
    """Krippendorff's alpha with its 95 % bootstrap interval over the items. All three are NaN if alpha is undefined."""

    alpha: float
    low: float
    high: float
    judges: int
    items: int  # verdicts on one item and pair of checkpoints that at least two judges gave


def alpha(counts_U_V: np.ndarray, level: Level) -> float:
    """Return alpha, given how many judges gave each value to each unit. (Suffixes: U units, V values in order.)

    NaN if no unit has two ratings, or if all ratings are the same: chance would then produce no disagreement.
    """
    paired_U_V = counts_U_V[counts_U_V.sum(1) >= 2]  # a single rating has nothing to agree with
    if np.count_nonzero(paired_U_V.sum(0)) < 2:
        return math.nan
    return float(krippendorff.alpha(value_counts=paired_U_V, level_of_measurement=level))


def agreement(verdicts: Sequence[Verdict], level: Level = "ordinal", resamples: int = 1000) -> JudgeAgreement:
    """Return alpha between the judges of the same replies. Unparsed verdicts count as missing ratings.

    Equal replies are left out: no judge saw them, and all judges would seem to agree on them. A unit is an item with a
    pair of checkpoints. The interval resamples items, because the pairs of one item are not independent. The values are
    ordinal by default: loss < tie < win.
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
    return JudgeAgreement(alpha(counts_U_V, level), float(low), float(high), len(judges), shared)
