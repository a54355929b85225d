"""How sure a learner was of its answers, and whether it was right to be (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from trainables.core import Completion

BINS = 10


def calibration_error(confidences: Sequence[float], scores: Sequence[float]) -> float:
    """Expected calibration error in [0, 1]: of ten bins of confidence, how far the mean confidence lies from the mean
    score, weighted by how many answers are in the bin."""
    bins: dict[int, list[tuple[float, float]]] = {}
    for pair in zip(confidences, scores, strict=True):
        bins.setdefault(min(BINS - 1, int(pair[0] * BINS)), []).append(pair)
    gaps = [abs(sum(confidence - score for confidence, score in own)) for own in bins.values()]
    return sum(gaps) / len(scores)


def confidence(said: Completion, decode: Callable[[list[int]], str], span: tuple[int, int] | None) -> float:
    """The probability in [0, 1] of the tokens that hold these characters of a completion; None: of all of it, and of
    its end where it ended."""
    first, last = 0, len(said.logprobs)
    if span is not None:
        last = len(said.tokens)  # from the end: an answer mostly stands there, and each length takes a decoding
        while last and len(decode(said.tokens[: last - 1])) >= span[1]:
            last -= 1
        first = last
        while len(decode(said.tokens[:first])) > span[0]:
            first -= 1
    return min(1.0, math.exp(sum(said.logprobs[first:last])))
