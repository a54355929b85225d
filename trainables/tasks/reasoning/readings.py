"""Read an answer out of a completion in any format, to tell a wrong format from a wrong answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainables.tasks.own.scores import NUMBER, last_number

BEFORE_ANSWER = re.compile(r"answer is|answer:|=", re.IGNORECASE)


def is_number(answer: str) -> bool:
    return NUMBER.fullmatch(answer) is not None


def reading(completion: str, answer: str, admissible: Sequence[str]) -> str | None:
    """Return what a completion gives as its answer; None if it names none, or several of few `admissible` ones.

    If there is an "answer is", "answer:" or "=", only the text after the last one counts. Where the right answer is a
    number, it is the last number there. Where there are no few admissible answers, it is the right answer, if that
    stands there as it is listed.
    """
    text = BEFORE_ANSWER.split(completion)[-1]
    if is_number(answer):
        said = last_number(text)
        return said.answer.replace(",", "").replace("$", "") if said else None
    named = {one for one in admissible or [answer] if _names(one, text)}
    return named.pop() if len(named) == 1 else None


def first_named(question: str, admissible: Sequence[str]) -> str:
    """Return what repeating a part of the question would answer: the first admissible answer that it names, or its last
    number, or its last word."""
    places = {one: found.start() for one in admissible if (found := _names(one, question))}
    if places:
        return min(places, key=lambda one: places[one])
    words = re.findall(r"\w+", question)
    said = last_number(question)
    return said.answer if said else words[-1] if words else question


def _names(answer: str, text: str) -> re.Match[str] | None:
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE)
