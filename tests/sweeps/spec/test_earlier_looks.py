"""What a further look at the test split is asked, and with which error rate."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from sweeps.results.allocation import Costs
from sweeps.results.comparison import LEVEL, Look
from sweeps.results.confirmation import Confirmation, Spending, beside_answers, confirmation_from
from sweeps.results.records import Final
from sweeps.spec.deserialize import rebuild
from sweeps.spec.earlier_looks import EarlierLooks, after
from tests.support.toy_sweep import SWEEP
from tests.support.toys import Digits
from trainables.tasks.arc.task import ArcTask
from trainables.tasks.arena.task import ArenaTask


def look(questions: int, seeds: int, rate: float = 0.01, base_rate: float = 0.02) -> Confirmation:
    finals = [Final(f"trial {i}", 0.9, np.ones((seeds - i, questions)), f"t{i}") for i in range(2)]
    return Confirmation(finals, looks=[Look(rate, base_rate, {})], spending=Spending(1.0, 2.0, Costs({}, {}, {}, 0)))


def test_each_look_has_questions_and_seeds_of_its_own_where_a_task_can_make_them() -> None:
    task = ArenaTask(test_size=30)
    assert after([], task) == EarlierLooks()
    assert after([look(30, 3)], task) == EarlierLooks(1, questions=30, seeds=3)
    assert after([look(30, 3), look(500, 2)], task) == EarlierLooks(2, questions=530, seeds=5)
    assert after([look(5, 1)], ArcTask(max_side=10, limit_test=5)) == EarlierLooks(1, questions=5, seeds=1)
    assert after([look(5, 1)], ArcTask(max_side=10)).again, "all of them were asked"


def test_looks_at_the_same_questions_share_an_error_rate() -> None:
    """In a task of 20 questions and 25 beyond them, the second look has other ones, and the third asks those again."""
    task = Digits(spare=25)
    assert after([look(20, 2)], task) == EarlierLooks(1, questions=20, seeds=2)
    again = after([look(20, 2), look(20, 2, 0.01, 0.03)], task)
    assert again == EarlierLooks(2, questions=20, seeds=2, rate=0.03, again=True)
    third = after([look(20, 2), look(20, 2, 0.01, 0.03), replace(look(20, 2, 0.015), look=3)], task)
    assert third == EarlierLooks(3, questions=20, seeds=2, rate=0.05, again=True)
    assert third.rate <= LEVEL


@pytest.mark.parametrize(("known", "spent"), [((), LEVEL), ((Look(0.045, 0.02, {}),), 0.045)])
def test_a_look_of_a_version_that_knew_none_has_spent_all(known: tuple[Look, ...], spent: float) -> None:
    assert replace(look(20, 2), looks=known).rate_spent == spent
    assert replace(look(20, 2), looks=(), finals=look(20, 2).finals[:1]).rate_spent == 0, "nothing was compared"


def test_the_rest_of_the_test_split_is_a_test_split() -> None:
    task = ArenaTask(test_size=30)
    later = pickle.loads(pickle.dumps(task.with_test_after(50)))
    every = list(task.test_up_to(100))
    assert list(later.test()) == every[50:80]
    assert list(later.test_up_to(50)) == every[50:]
    assert list(later.test_up_to(50)[:30]) == list(later.test())
    assert list(later.with_test_after(60).test()) == every[60:90], "counted from the task's own"
    assert list(later.with_test_after(0).test()) == every[:30]
    assert list(later.search()) == list(task.search())


def test_a_sweep_is_read_back_with_what_its_looks_have_used_up() -> None:
    pair = replace(SWEEP.pairs[0], task=Digits(spare=25))
    sweep = replace(SWEEP, pairs=(pair,), seed=7).after_looks(EarlierLooks(1, questions=20, seeds=4))
    found = rebuild({"sweep": sweep.to_dict(), "command": ["script.py"]})
    assert found.earlier == sweep.earlier
    assert found.finalist_seed == 12
    assert [one.key for one in found.pairs[0].task.test()] == [f"test/{i}" for i in range(20, 40)]


def test_the_finalists_of_a_further_look_are_read_back() -> None:
    known = replace(look(20, 2), look=2, spent=0.03, again=True)
    found = confirmation_from(beside_answers(known), known.finals, ())
    assert (found.look, found.spent, found.again) == (2, 0.03, True)
    assert found.level == pytest.approx(0.02)
