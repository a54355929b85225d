"""Which samples of a rationale are kept, and what the kept ones weigh."""

from __future__ import annotations

import pytest

from sweeps.engine.sieve import read, weights
from trainables.tasks.strategyqa import said


def test_weights_by_hand():
    """60 % Yes of all, 40 % of the kept: 0.6/0.4 and 0.4/0.6; weighted, the kept are 60 % Yes again."""
    found = weights(["Yes"] * 6 + ["No"] * 4, ["Yes"] * 2 + ["No"] * 3)
    assert found == pytest.approx({"Yes": 1.5, "No": 2 / 3})
    assert 2 * found["Yes"] / (2 * found["Yes"] + 3 * found["No"]) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="no rationale for the answer Yes is left, of 1 questions"):
        weights(["Yes", "No"], ["No"])


@pytest.mark.parametrize(
    ("text", "rationale", "answer"),
    [
        ("Salt is white. So the answer is Yes.", "Salt is white.", "Yes"),
        (" Salt is white.\n\nSnow too.\nSo, the answer is no\n", "Salt is white. Snow too.", "No"),
        ("<think>So the answer is No.</think>Salt is white. So the answer is Yes.", "Salt is white.", "Yes"),
        ("No man is an island. So the answer is Yes.", "No man is an island.", "Yes"),
    ],
)
def test_what_can_be_read(text, rationale, answer):
    found = read(text, said)
    assert (found.rationale, found.answer) == (rationale, answer)
    assert said(found.completion).answer == answer


@pytest.mark.parametrize(
    "text",
    [
        "Yes.",
        "So the answer is Yes.",
        "Salt is white. Yes.",
        "Salt is white. So the answer is Yes. I think.",
        "Salt is white. So the answer is perhaps.",
        "Salt is white. So the answer is",
        "The answer is Yes. Salt is white. So the answer is Yes.",
        "So the answer is No. But wait. So the answer is Yes.",
        "Salt is white. So the answer is Yes. So the answer is No.",
        "",
    ],
)
def test_what_cannot_be_read_is_no_sample(text):
    assert read(text, said) is None
