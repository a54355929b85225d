"""The gain of training over the untouched base, in two parts: answer format and skill. Scores are in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gain:
    """A gain in points of score. `form`: right answers that the base gave, but in another format than asked; `skill`:
    the rest, which no reading of the untouched base's completions could give."""

    before: float
    lenient: float
    total: float
    form: float
    skill: float


def gain(best: float | None, untouched: Mapping[str, Any]) -> Gain | None:
    """Divide a gain: the lenient score of the untouched base less its strict score is answer format.

    `untouched`: metrics of the base before training. Return None if either score is missing: a likelihood has no
    lenient reading.
    """
    before = untouched.get("score")
    if best is None or before is None or not math.isfinite(before) or "lenient" not in untouched:
        return None
    lenient = max(before, untouched["lenient"])
    total = 100 * (best - before)
    form = min(total, 100 * (lenient - before))
    return Gain(before, lenient, total, form, total - form)
