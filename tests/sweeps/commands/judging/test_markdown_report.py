"""The report of the verdicts, as a person reads it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sweeps.commands.judging.markdown_report import in_words, markdown_report
from sweeps.commands.judging.win_rates import win_rate
from tests.support.judging_kit import verdict, verdicts

NAMES = {"x": "winner", "y": "untouched base"}


def test_a_difference_inside_the_noise_is_called_none():
    report = markdown_report(verdicts(18, 7, 15), NAMES)
    assert report.startswith("j: winner (x) is indistinguishable from untouched base (y): 54 % [40, 67] of 40 items.")


@pytest.mark.parametrize(("counts", "words"), [((30, 4, 6), "better than"), ((6, 4, 30), "worse than")])
def test_a_difference_beyond_it_is_called_by_its_name(counts, words):
    assert f"winner (x) is {words} untouched base (y)" in markdown_report(verdicts(*counts), NAMES)


def test_four_wins_among_equal_replies_are_no_proof():
    """The score interval of 52 % leaves out 50 %; the four items that were judged decide nothing."""
    said = markdown_report([*verdicts(4, 0, 0), *(verdict("", f"equal {item}") for item in range(96))], NAMES)
    assert "winner (x) is indistinguishable from untouched base (y): 52 % [50, 55] of 100 items, which" in said
    assert "may be chance: the exact sign test has p = 0.12 (only 4 of 100 items judged" in said


def test_few_items_and_unread_verdicts_are_said():
    said = markdown_report([*verdicts(9, 0, 1), verdict("unparsed", "u")], NAMES)
    assert "(only 10 items, at least 30 are needed; 1 of 11 verdicts could not be parsed)" in said
    assert "| j | winner (x) | untouched base (y) | 90 % | [60, 98] | 9 / 0 / 1 | 1 |" in said


def test_nothing_read_is_nothing_known():
    said = markdown_report([verdict("unparsed", item) for item in range(3)])
    assert "x and y cannot be compared: only 0 items" in said
    assert "nan" not in said


def test_of_many_comparisons_one_is_bound_to_look_good():
    rate = win_rate(verdicts(28, 0, 13), "x")
    assert rate.interval[0] > 0.5
    assert in_words("x", "y", rate, rate).startswith("x is better than y")
    corrected = win_rate(verdicts(28, 0, 13), "x", 1 - 0.05 / 10)
    said = in_words("x", "y", rate, corrected, 10)
    assert said.startswith("x is indistinguishable from y: 68 % [")
    assert said.endswith("which may be chance among 10 comparisons")


def test_a_report_allows_for_all_of_its_comparisons():
    pair, others = verdicts(28, 0, 13), [*verdicts(20, 0, 20, first="x", second="z"), *verdicts(0, 9, 0, first="z")]
    assert "x is better than y: 68 % [53, 80]" in markdown_report(pair)
    assert "x is indistinguishable from y: 68 % [53, 80] of 41 items, which may be chance among 3" in markdown_report(
        pair + others
    )


def test_equal_checkpoints_are_rarely_told_apart():
    """Six equal checkpoints, 15 comparisons: a report that names any winner is wrong, at most one time in twenty."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(40):
        made = [
            verdict(str(rng.choice(["first", "tie", "second"])), item, first, second)
            for item in range(40)
            for i, first in enumerate("abcdef")
            for second in "abcdef"[i + 1 :]
        ]
        pairs = {(v.first, v.second): [w for w in made if (w.first, w.second) == (v.first, v.second)] for v in made}
        rates = [(win_rate(own, a), win_rate(own, a, 1 - 0.05 / 15)) for (a, _), own in pairs.items()]
        wrong += any("indistinguishable" not in in_words("a", "b", *both, 15) for both in rates)
    assert wrong <= 5, "2 are expected"


def test_three_checkpoints_and_two_judges_have_strengths_and_an_agreement():
    made = [
        verdict("first", item, first, second, judge)
        for judge in ("kind", "stern")
        for item in range(30)
        for first, second in ("ab", "bc", "ac")
    ]
    made += [verdict("AA", item, "a", "b", "biased") for item in range(30)]
    report = markdown_report(made)
    assert "| biased | 30 | 100 % | 0 % | 0 % |" in report
    assert "| kind | 90 | 0 % | 0 % | 100 % |" in report
    assert re.search(r"Agreement of the 3 judges on 90 verdicts: Krippendorff's alpha -?\d\.\d\d \[", report)
    strengths = re.findall(r"^\| ([abc]) \| ([+-]\d+\.\d\d) \|", report, re.MULTILINE)
    assert [name for name, _ in strengths] == ["a", "b", "c"]


def test_one_judge_is_not_said_to_agree():
    assert "only one judge" in markdown_report(verdicts(3, 3, 3))
    same = [verdict("tie", i, judge=judge) for i in range(5) for judge in "jk"]
    assert "undefined" in markdown_report(same)
