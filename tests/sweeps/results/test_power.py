"""What finalists will show, before they are trained: by hand, and by its limits."""

from __future__ import annotations

import math

import pytest
from scipy.stats import t

from sweeps.results.power import best_plan, smallest_shown


def test_by_hand_from_seeds_questions_and_answers():
    """Two finalists, three seeds, 200 questions. Answers to one question agree with a covariance of asin(r) / 2 pi."""
    within, between = math.asin(0.6) / (2 * math.pi), math.asin(0.35) / (2 * math.pi)
    seeds, questions, answers = 2 * 0.02**2 / 3, 2 * (within - between) / 200, 2 * (0.25 - within) / 600
    variance = seeds + questions + answers
    freedom = variance**2 / ((seeds + answers) ** 2 / 4 + (questions + answers) ** 2 / 199)
    looks = 1.1 + 0.55 / 3
    expected = looks * (t.ppf(0.975, freedom) + t.ppf(0.8, freedom)) * math.sqrt(variance)
    assert smallest_shown(2, 3, 200) == pytest.approx(expected)
    assert 0.12 < expected < 0.15


def test_more_of_anything_shows_more_and_nothing_shows_more_than_all():
    assert smallest_shown(2, 4, 200) < smallest_shown(2, 3, 200) < smallest_shown(2, 3, 100)
    assert smallest_shown(2, 30, 2000) > 2 * 0.02 / math.sqrt(30), "seeds' luck stays"
    assert smallest_shown(2, 2, 3) == 1.0


def test_a_plan_spends_its_seconds_where_they_show_most():
    """A training costs as much as 1,000 questions: few trainings with many questions each, all of the time used."""
    plan = best_plan(2, train_s=10.0, ask_s=0.01, most_questions=2000, seconds=100.0)
    assert plan is not None
    assert 2 * plan.seeds * (10 + 0.01 * plan.questions) == pytest.approx(100)
    dear = best_plan(2, train_s=0.0, ask_s=1.0, most_questions=2000, seconds=100.0)
    assert dear is not None
    assert dear.questions < plan.questions
    assert best_plan(2, 10.0, 0.01, 2000, 39.0) is None, "two seeds of two finalists take 40 seconds"
    few = best_plan(2, 10.0, 0.01, 40, 100.0)
    assert few is not None
    assert few.questions == 40, "there are no more"
