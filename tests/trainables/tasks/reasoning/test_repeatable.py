"""Another process draws the same questions, or the generator is refused."""

from __future__ import annotations

import pytest

pytest.importorskip("reasoning_gym", reason="run `make reasoning-gym`")

from trainables.tasks.reasoning.task import ReasoningTask


def test_a_generator_whose_questions_differ_between_processes_is_refused():
    """It draws from a set of letters, whose order Python chooses anew in each process."""
    task = ReasoningTask("rg:gcd+isomorphic_strings", train_size=4, search_size=4, test_size=4)
    with pytest.raises(ValueError, match=r"^rg:isomorphic_strings draws other questions in every process") as told:
        task.fitted([])
    assert "\n" not in str(told.value)


def test_a_generator_that_prints_is_not_taken_for_one_that_differs(capsys):
    """`bf` prints a point for every question."""
    task = ReasoningTask("rg:bf", train_size=4, search_size=4, test_size=4)
    assert task.fitted([]).max_new_tokens > 0
