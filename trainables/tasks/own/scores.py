"""Compare a completion with the right answer: exactly, by a number, by a choice, by a pattern.

Letter case, runs of spaces and one final full stop never count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal

from trainables.core import ParsedAnswer
from trainables.tasks.own.columns import Choice
from trainables.tasks.own.data import Question

AUTO, LIKELIHOOD, REGEX = "auto", "likelihood", "regex:"
MARK = "####"  # before the answer of GSM8K, behind its reasoning
NUMBER = re.compile(r"(?<![\w.])-?\$?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?")
FEW_ANSWERS = 20  # a task with so few different answers is a choice between them
SHORT = 6  # words; texts that are longer are right in many wordings


def automatic(questions: Sequence[Question]) -> tuple[str, str]:
    """Return the rule that fits the answers, and why."""
    answers = [one.answer for one in questions]
    if all(one.choices for one in questions):
        return "choice", "there are choices"
    if all(_is_number(answer) for answer in answers):
        return "number", f"every answer is a number, or ends with {MARK} and one"
    if is_choice_of_few(answers):
        return "exact", f"there are {len(set(answers))} different answers"
    short = sum(len(answer.split()) <= SHORT and "\n" not in answer for answer in answers)
    if short >= 0.9 * len(answers):
        return "exact", "answers are short"
    return LIKELIHOOD, "answers are texts, which may be right in other words"


def is_choice_of_few(answers: Sequence[str]) -> bool:
    """Whether there are few different answers, each of which comes again."""
    return len(set(answers)) <= min(FEW_ANSWERS, len(answers) // 4)


def exact(one: Question, completion: str) -> float:
    return float(normal(completion) == normal(one.answer))


def contains(one: Question, completion: str) -> float:
    """Return 1 if the answer's words stand in the completion, in a row."""
    return float(re.search(rf"(?<!\w){re.escape(normal(one.answer))}(?!\w)", normal(completion)) is not None)


def number(one: Question, completion: str) -> float:
    """Return 1 if the last number of both is equal, as numbers: 1,000.0 is 1000. Behind `####` only that counts."""
    said, right = last_number(completion), last_number(one.answer)
    return float(said is not None and right is not None and _value(said.answer) == _value(right.answer))


def choice(one: Question, completion: str) -> float:
    said = said_choice(one.choices, completion)
    return float(said is not None and said.answer == one.answer)


def by_pattern(pattern: str) -> Callable[[Question, str], float]:
    """Return a rule: what the pattern's first group (or all of it) last matches in both is equal."""
    compiled = compiled_pattern(pattern)

    def score(one: Question, completion: str) -> float:
        said, right = _last(compiled, completion), _last(compiled, one.answer)
        return float(said is not None and normal(said) == normal(one.answer if right is None else right))

    return score


def compiled_pattern(pattern: str) -> re.Pattern[str]:
    """Raise ValueError for a pattern that is not valid."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"score '{REGEX}{pattern}' is no regular expression ({error}); repair it") from error


RULES: dict[str, Callable[[Question, str], float]] = {
    "exact": exact,
    "contains": contains,
    "number": number,
    "choice": choice,
}


def normal(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".").rstrip()


def last_number(text: str) -> ParsedAnswer | None:
    found = [*NUMBER.finditer(text, max(0, text.rfind(MARK)))][-1:]
    return ParsedAnswer(found[0].group(), *found[0].span()) if found else None


def said_choice(choices: Sequence[Choice], completion: str) -> ParsedAnswer | None:
    """Return the label of the choice that a completion begins with (`B`, `(B)`, `B. text`) or that it spells out."""
    labels = "|".join(re.escape(one.label) for one in sorted(choices, key=lambda one: -len(one.label)))
    if found := re.match(rf"\s*\(?({labels})(?:\s*$|[).:\n])", completion):
        return ParsedAnswer(found[1], *found.span(1))
    same = [one.label for one in choices if normal(one.text) == normal(completion)]
    return ParsedAnswer(same[0], 0, len(completion)) if len(same) == 1 else None


def names_choice(one: Question, completion: str) -> float:
    """Return 1 if a completion contains the text of the right choice and of no other."""
    text = normal(completion)
    return float([own.label for own in one.choices if normal(own.text) in text] == [one.answer])


def _is_number(answer: str) -> bool:
    behind = answer.rpartition(MARK)[2].strip()
    return NUMBER.fullmatch(behind.removesuffix("%").rstrip()) is not None


def _value(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("$", ""))


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = [*pattern.finditer(text)][-1:]
    return found[0][1 if pattern.groups else 0] if found else None
