"""The choice of samples of a rationale, and their weights."""

from __future__ import annotations

import pytest

from sweeps.commands.rationales.filtering import RationaleFilter, read
from trainables.core import Example
from trainables.tasks.strategyqa.task import parse_answer


def test_weights_by_hand():
    """60 % Yes of all, 40 % of the kept: 0.6/0.4 and 0.4/0.6; weighted, the kept are 60 % Yes again."""
    examples = [Example("", "Yes" if place < 6 else "No", "", str(place)) for place in range(10)]
    rationale_filter = RationaleFilter(examples, parse_answer)
    for place in (0, 1, 6, 7, 8):
        rationale_filter.add(examples[place], f"It is so. So the answer is {examples[place].answer}.")
    found = rationale_filter.weights()
    assert found == pytest.approx({"Yes": 1.5, "No": 2 / 3})
    assert 2 * found["Yes"] / (2 * found["Yes"] + 3 * found["No"]) == pytest.approx(0.6)
    assert [row["weight"] for row in rationale_filter.rows("")] == pytest.approx([1.5] * 2 + [2 / 3] * 3)


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
    found = read(text, parse_answer)
    assert (found.rationale, found.answer) == (rationale, answer)
    assert parse_answer(found.completion).answer == answer


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
    assert read(text, parse_answer) is None
