"""How sure an answer was, and the expected calibration error, by hand."""

from __future__ import annotations

import math

import pytest

from trainables.core import Completion
from trainables.learners.lm.calibration import calibration_error, confidence

PIECES = {1: "So", 2: " it", 3: " is", 4: " Ye", 5: "s", 6: "."}


def decode(tokens):
    return "".join(PIECES[token] for token in tokens)


def said(ended=True):
    """ "So it is Yes.", and its end, each token with a probability of its own."""
    probabilities = [0.9, 0.8, 0.7, 0.5, 0.6, 0.3] + [0.2] * ended
    return Completion([1, 2, 3, 4, 5, 6], ended, [math.log(p) for p in probabilities])


def test_confidence_is_the_probability_of_the_tokens_that_hold_the_answer():
    assert decode(said().tokens)[9:12] == "Yes"
    assert confidence(said(), decode, (9, 12)) == pytest.approx(0.5 * 0.6)
    assert confidence(said(), decode, (0, 2)) == pytest.approx(0.9)
    assert confidence(said(), decode, (9, 13)) == pytest.approx(0.5 * 0.6 * 0.3)
    assert confidence(said(), decode, None) == pytest.approx(0.9 * 0.8 * 0.7 * 0.5 * 0.6 * 0.3 * 0.2)
    assert confidence(said(ended=False), decode, None) == pytest.approx(0.9 * 0.8 * 0.7 * 0.5 * 0.6 * 0.3)


def test_calibration_error_by_hand():
    """Bins: 0.95 and 0.91 (one right), 0.55 (right), 1.0 goes to the last bin as well."""
    sure, scores = [0.95, 0.91, 0.55, 1.0], [1.0, 0.0, 1.0, 1.0]
    last, middle = abs((0.95 + 0.91 + 1.0) / 3 - 2 / 3) * 3 / 4, abs(0.55 - 1) / 4
    assert calibration_error(sure, scores) == pytest.approx(last + middle)


@pytest.mark.parametrize(("sure", "right", "error"), [(1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.75, 0.75, 0.0)])
def test_calibration_error_of_the_extremes(sure, right, error):
    scores = [1.0] * round(100 * right) + [0.0] * (100 - round(100 * right))
    assert calibration_error([sure] * 100, scores) == pytest.approx(error, abs=1e-12)
