"""Calibration of a learner's answers (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from trainables.core import Completion

BINS = 10


def calibration_error(confidences: Sequence[float], scores: Sequence[float]) -> float:
    """Return the expected calibration error in [0, 1] over ten bins of confidence.

    A bin's error is the distance of its mean confidence from its mean score, weighted by its share of the answers.
    """
    bins: dict[int, list[tuple[float, float]]] = {}
    for pair in zip(confidences, scores, strict=True):
        bins.setdefault(min(BINS - 1, int(pair[0] * BINS)), []).append(pair)
    gaps = [abs(sum(confidence - score for confidence, score in own)) for own in bins.values()]
    return sum(gaps) / len(scores)


def confidence(completion: Completion, decode: Callable[[list[int]], str], span: tuple[int, int] | None) -> float:
    """Return the probability in [0, 1] of the tokens that hold the characters `span` of a completion.

    None: the probability of all tokens, and of the end token if the completion ended.
    """
    first, last = 0, len(completion.logprobs)
    if span is not None:
        last = len(completion.tokens)  # search from the end, where most answers are: each length costs a decoding
        while last and len(decode(completion.tokens[: last - 1])) >= span[1]:
            last -= 1
        first = last
        while len(decode(completion.tokens[:first])) > span[0]:
            first -= 1
    return min(1.0, math.exp(sum(completion.logprobs[first:last])))
