"""Differences of two models on the same questions, against values by hand and from scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from sweeps.commands.evaluation.command import table
from sweeps.commands.evaluation.differences import Difference, compare, values_of


def by_question(values):
    return {("task", number): value for number, value in enumerate(values)}


def test_right_and_wrong_answers_are_paired_by_question():
    before = [1] * 40 + [0] * 10 + [1] * 2 + [0] * 48
    after = [1] * 40 + [1] * 10 + [0] * 2 + [0] * 48
    found = compare("task", "acc", by_question(before), by_question(after), None)
    assert (found.untouched, found.trained, found.difference, found.n) == pytest.approx((0.42, 0.5, 0.08, 100))
    assert found.p == pytest.approx(binomtest(10, 12).pvalue)
    low, high = found.interval
    half = 1.96 * math.sqrt(12 - 8**2 / 100) / 100  # Wald's, which Tango's is near for 100 questions
    assert low == pytest.approx(0.08 - half, abs=0.015)
    assert high == pytest.approx(0.08 + half, abs=0.015)


def test_equal_answers_still_have_an_interval():
    found = compare("task", "acc", by_question([1, 0] * 25), by_question([1, 0] * 25), None)
    assert found.difference == 0
    assert found.p == 1
    low, high = found.interval
    assert -0.1 < low < 0 < high < 0.1


def test_other_values_have_the_interval_of_their_differences():
    random = np.random.default_rng(0)
    before = random.normal(size=200)
    after = before + random.normal(0.1, 0.5, size=200)
    found = compare("task", "bleurt", by_question(before), by_question(after), None)
    student = ttest_rel(after, before)
    assert found.interval == pytest.approx(tuple(student.confidence_interval(0.95)), abs=0.02)
    assert found.p == pytest.approx(student.pvalue, abs=0.02)


def test_a_perplexity_has_a_bootstrap_interval_of_its_own_difference():
    random = np.random.default_rng(0)
    before = random.normal(-2, 0.5, size=400)
    after = before + 0.1 + random.normal(0, 0.02, size=400)  # every question is more likely by about 0.1 nats

    def perplexity(values):
        return math.exp(-float(np.mean(values)))

    found = compare("task", "perplexity", by_question(before), by_question(after), perplexity)
    assert found.difference == pytest.approx(perplexity(after) - perplexity(before))
    low, high = found.interval
    assert low < found.difference < high < 0
    unpaired = perplexity(before) * 0.5 / math.sqrt(400) * 2 * 1.96
    assert high - low < unpaired / 3
    assert found.p is None


def test_only_questions_that_both_answered_are_compared():
    found = compare("task", "acc", by_question([1, 0, 1]), {("task", 1): 1, ("task", 2): 1}, None)
    assert (found.untouched, found.trained, found.n) == (0.5, 1, 2)


def test_values_are_kept_apart_by_filter_and_task():
    def sample(number, by, value):
        return {"doc_id": number, "filter": by, "metrics": ["exact_match"], "exact_match": value}

    results = {"samples": {"a": [sample(0, "strict", 0), sample(0, "loose", 1)], "b": [sample(0, "loose", 0)]}}
    assert values_of(results, ["a", "b"]) == {
        ("exact_match", "strict"): {("a", 0): 0},
        ("exact_match", "loose"): {("a", 0): 1, ("b", 0): 0},
    }


def test_shares_are_in_percent_and_other_numbers_as_they_are():
    rows = [
        Difference("arc", "acc", 0.5, 0.525, 0.025, (-0.01, 0.06), 0.2, 200),
        Difference("wiki", "word_perplexity", 20.125, 18.5, -1.625, (-2.25, -1.0), None, 60),
        Difference("all", "acc", 0.25, 0.5, 0.25, None, None, 260),
    ]
    assert table(rows).splitlines()[2:] == [
        "| arc | acc | 50.0 % | 52.5 % | +2.5 | -1.0 to 6.0 | 0.2 | 200 |",
        "| wiki | word_perplexity | 20.12 | 18.5 | -1.625 | -2.25 to -1 | - | 60 |",
        "| all | acc | 25.0 % | 50.0 % | +25.0 | - | - | 260 |",
    ]
