"""Weights that undo what a filter does to labels: it keeps more of the answer that a model prefers to give."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from trainables.core import Example


def label_factors(everyone: Sequence[Example], kept: Sequence[Example], weights: Sequence[float]) -> dict[str, float]:
    """Per label, what its rows' weights are multiplied by: its share of all questions over its share of the kept
    weight, so that rows weigh 1 on average and labels as much as they do everywhere.

    Raises ValueError where a label is lost: no weight would bring it back.
    """
    wanted, have = Counter(example.answer for example in everyone), defaultdict[str, float](float)
    for example, weight in zip(kept, weights, strict=True):
        have[example.answer] += weight
    if lost := [label for label in wanted if not have[label]]:
        of = wanted[lost[0]]
        raise ValueError(
            f"no kept rationale concludes {lost[0]!r}, of {of} questions; loosen the filter, or make more rationales"
        )
    return {label: (wanted[label] / len(everyone)) / (have[label] / len(kept)) for label in wanted}
