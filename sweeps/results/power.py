"""How small a difference finalists will show, before any of them is trained.

Equal configurations differ by the luck of the questions and by that of the seeds (`uncertainty.py`). Before a sweep
neither is known, so typical values stand for them: scores near one half, seeds that differ as `allocation.py` assumes,
and answers that agree as those of related models do. `benchmarks/minutes.py` checks what this promises.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from sweeps.results.allocation import PRIOR_SEED
from sweeps.results.comparison import LEVEL

POWER = 0.8
# Whether an answer is right depends on a normal variable below a threshold. So much of its variance is the question's
# own for all configurations, and for one configuration; the rest is the seed's.
OF_QUESTION, OF_CONFIGURATION = 0.35, 0.25
FEWEST_SEEDS, MOST_SEEDS = 2.0, 30.0
QUESTIONS = (20, 30, 50, 75, 100, 150, 200, 300, 400, 500, 700, 1000, 1400, 2000)


class Plan(NamedTuple):
    """Seeds of each finalist (some get more than others, so the mean need not be whole), questions that each is asked,
    and the smallest difference that this shows, in [0, 1]."""

    seeds: float
    questions: int
    shown: float


def smallest_shown(finalists: int, seeds: float, questions: int) -> float:
    """Return the smallest true difference of the best from the next that is told apart in 80 % of cases, in [0, 1].

    By Student's t, with degrees of freedom as in the test itself (Satterthwaite 1946). A single seed is one of models
    that have nothing in common: its luck is that of the questions.
    """
    from scipy.stats import t

    of_answers = 2 * (0.25 - _covariance(OF_QUESTION + OF_CONFIGURATION)) / (seeds * questions)
    of_questions = 2 * (_covariance(OF_QUESTION + OF_CONFIGURATION) - _covariance(OF_QUESTION)) / questions
    of_seeds = 2 * PRIOR_SEED**2 / seeds if seeds > 1 else 0.0
    variance = of_seeds + of_questions + of_answers
    weight = (of_seeds + of_answers) ** 2 / (finalists * (seeds - 1)) if seeds > 1 else 0.0
    weight += (of_questions + of_answers) ** 2 / max(1, questions - 1)
    freedom = variance**2 / weight
    reach = float(t.isf(LEVEL / 2, freedom) + t.isf(1 - POWER, freedom))
    return min(1.0, (_for_looks(seeds) if seeds > 1 else 1.0) * reach * math.sqrt(variance))


def _for_looks(seeds: float) -> float:
    """Return how many times as large as for one look a difference must be: there are several, the finalists end early
    when it seems hopeless, and seeds come in whole numbers. Fitted to what `benchmarks/minutes.py` finds."""
    return 1.1 + 0.55 / seeds


def _covariance(correlation: float) -> float:
    """Return the covariance of two answers (0 or 1, each with one half) whose normal variables correlate so
    (Sheppard 1899)."""
    return math.asin(correlation) / (2 * math.pi)


def best_plan(
    finalists: int,
    train_s: float,
    ask_s: float,
    most_questions: int,
    seconds: float,
    fewest_questions: int = 0,
    independent: bool = False,
) -> Plan | None:
    """Return the seeds and questions that show the smallest difference in `seconds`; None if two seeds take longer.

    A training takes `train_s`, a question `ask_s`, in seconds of everything that works side by side. `independent`:
    each question has a model of its own, and a single seed is enough.
    """
    plans, fewest, most = [], FEWEST_SEEDS, MOST_SEEDS
    if independent:
        fewest = most = 1.0
    for asked in sorted({max(fewest_questions, min(count, most_questions)) for count in QUESTIONS}):
        seeds = min(most, seconds / (finalists * (train_s + asked * ask_s)))
        if seeds >= fewest:
            plans.append(Plan(seeds, asked, smallest_shown(finalists, seeds, asked)))
    return min(plans, key=lambda plan: plan.shown, default=None)
