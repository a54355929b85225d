"""Weights that undo what a filter does to labels: it keeps more of the answer that a model prefers to give."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from trainables.core import Example

LOST = "no kept rationale concludes {label!r}, of {count} questions; loosen the filter, or make more rationales"


def label_factors(
    everyone: Sequence[Example], kept: Sequence[Example], weights: Sequence[float], lost: str = LOST
) -> dict[str, float]:
    """Per label, what its rows' weights are multiplied by: its share of all questions over its share of the kept
    weight, so that rows weigh 1 on average and labels as much as they do everywhere.

    Raises ValueError in the words of `lost` where a label is lost: no weight would bring it back.
    """
    wanted, have = Counter(example.answer for example in everyone), defaultdict[str, float](float)
    for example, weight in zip(kept, weights, strict=True):
        have[example.answer] += weight
    for label, count in wanted.items():
        if not have[label]:
            raise ValueError(lost.format(label=label, count=count))
    return {label: (wanted[label] / len(everyone)) / (have[label] / len(kept)) for label in wanted}
