"""Weights that restore the distribution of labels after a filter has kept more of one label than of another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from trainables.core import Example

LOST = "no kept rationale concludes {label!r}, of {count} questions; loosen the filter, or make more rationales"


def label_factors(
    everyone: Sequence[Example], kept: Sequence[Example], weights: Sequence[float], lost: str = LOST
) -> dict[str, float]:
    """Return a factor for the weights of each label's rows: its share of all questions over its share of kept weight.

    Rows then weigh 1 on average, and each label as much as among all questions. Raise ValueError with the message
    `lost` if no row of a label was kept, as no weight could restore it.
    """
    wanted, have = Counter(example.answer for example in everyone), defaultdict[str, float](float)
    for example, weight in zip(kept, weights, strict=True):
        have[example.answer] += weight
    for label, count in wanted.items():
        if not have[label]:
            raise ValueError(lost.format(label=label, count=count))
    return {label: (wanted[label] / len(everyone)) / (have[label] / len(kept)) for label in wanted}
