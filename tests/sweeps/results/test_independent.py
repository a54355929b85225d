"""Where each question has a model of its own, one seed tells all of the luck: it is that of the questions."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from sweeps.commands.decide import _open_question
from sweeps.results.allocation import Costs
from sweeps.results.comparison import LEVEL, Look
from sweeps.results.confirmation import Confirmation, Spending, beside_answers, confirmation_from
from sweeps.results.decision import Budget, Progress, next_stage
from sweeps.results.finals import to_decide, verdict
from sweeps.results.power import best_plan, smallest_shown
from sweeps.results.records import Final
from trainables.bad_input import BadInput

N = 160
BEFORE = "untrained ensemble (programs and lenses alone)"


def answers(score: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((1, N)) < score).astype(float)


def finals(*scores: float) -> list[Final]:
    return [Final(f"trial {i} (x)", None, answers(score, i), f"t{i}", before=BEFORE) for i, score in enumerate(scores)]


def test_the_interval_of_a_difference_is_that_of_a_paired_t_test() -> None:
    known = Confirmation(finals(0.6, 0.3), independent=True)
    (found,) = known.comparisons()
    first, second = (one.scores[0] for one in known.finals)
    theirs = stats.ttest_rel(first, second)
    low, high = theirs.confidence_interval()
    assert found.interval == pytest.approx((low, high))
    assert found.p == pytest.approx(stats.binomtest(int((first > second).sum()), int((first != second).sum())).pvalue)


def test_they_are_compared_once_with_all_of_the_error_rate_and_trained_once() -> None:
    budget = Budget(1000.0, LEVEL)
    scores = {one.name: one.scores for one in finals(0.6, 0.58)}
    now = Progress(scores, seconds=10.0, untrained=[*scores], independent=True)
    look = now.look(budget)
    assert look is not None
    assert (look.rate, look.base_rate) == pytest.approx((LEVEL, LEVEL)), "no later look is to come"
    assert look.sizes == dict.fromkeys(scores, (1, N))
    assert now.comparisons()[0].alone >= LEVEL, "it is open, and more seeds would not decide it"
    assert next_stage(Progress(scores, [look], 10.0, (), [*scores], True), budget, None) is None  # type: ignore[arg-type]
    assert Progress(scores).look(budget) is None, "with seeds in common, one of them says nothing of luck"


def test_a_winner_is_named_after_one_training() -> None:
    """It solves eight tasks that programs do not, and none less: p = 2 / 2^8, which holds for all pairs together."""
    solved = np.zeros((1, N))
    solved[0, :47] = 1
    more = solved.copy()
    more[0, 47:55] = 1
    trained = Final("trial 1 (ensemble)", 0.4, more, "t1", before=BEFORE)
    before = Final(BEFORE, None, solved)
    few = Final("trial 2 (percell)", 0.1, answers(0.1, 5), "t2", before="")
    known = Confirmation([trained, before, few], independent=True)
    first, gain, *rest = verdict(known)
    assert first.startswith("trial 1 (ensemble) is better than all other finalists (the next is untrained ensemble")
    assert gain == f"The best is +5.0 points from the {BEFORE} (p = {2 / 2**8:.2g})"
    assert not any("Noise floor" in line for line in rest), "nothing was trained twice"


def test_it_is_kept_and_said_what_would_decide() -> None:
    known = Confirmation(finals(0.5, 0.49), independent=True)
    again = confirmation_from(beside_answers(known), known.finals, ())
    assert again.independent
    assert again.comparisons() == known.comparisons()
    assert not confirmation_from(beside_answers(Confirmation(finals(0.5))), (), ()).independent
    assert to_decide(known) == "", "without costs nothing is said"
    names = [one.name for one in known.finals]
    costs = Costs(dict.fromkeys(names, 9.0), dict.fromkeys(names, 0.1), dict.fromkeys(names, 30), N)
    paid = replace(known, spending=Spending(18.0, 100.0, costs))
    assert to_decide(paid) == "More seeds would not tell them apart: each question has a model of its own"
    with pytest.raises(BadInput, match="more seeds decide nothing"):
        _open_question(SimpleNamespace(folder="runs/x", confirmation=replace(paid, looks=[Look(1, 1, {})])), 5.0)  # type: ignore[arg-type]


def test_a_plan_puts_all_time_into_questions() -> None:
    plan = best_plan(2, 0.0, 1.0, most_questions=200, seconds=330.0, independent=True)
    assert plan is not None
    assert (plan.seeds, plan.questions) == (1.0, 150)
    assert plan.shown == smallest_shown(2, 1.0, 150) < smallest_shown(2, 2.0, 75)
    assert best_plan(2, 0.0, 1.0, 200, 330.0) is not None, "two seeds of fewer questions"
