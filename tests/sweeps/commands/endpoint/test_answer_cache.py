"""Answers that are kept in a file."""

from __future__ import annotations

import os

from sweeps.commands.endpoint.answer_cache import FILE, AnswerCache, Reply


def test_the_first_of_two_answers_to_one_question_stays(tmp_path):
    """Two processes that ask the same thing at the same time go on with the same answer."""
    one, other = AnswerCache(tmp_path), AnswerCache(tmp_path)
    assert one.put("key", "mini", Reply("first", 3, 4)).text == "first"
    assert other.put("key", "mini", Reply("second", 3, 4)) == Reply("first", 3, 4)
    assert other.get("key") == Reply("first", 3, 4, cached=True)
    assert one.tokens("mini") == (3, 4)
    one.close()
    other.close()
    assert os.listdir(tmp_path) == [FILE]
