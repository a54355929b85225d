"""The arena's questions about numbers: sequences and one-step word problems."""

from __future__ import annotations

from functools import cache
from itertools import product
from random import Random

from trainables.tasks.arena.world import LARGEST_NUMBER, NAMES, OBJECTS, Question

SEQUENCE_WORDINGS = {
    "next": "What comes next: {}?",
    "follow": "Which number follows {}?",
    "continue": "Continue the sequence {}.",
    "missing": "Find the missing number: {}, and then?",
}


@cache
def progressions() -> dict[str, list[tuple[int, ...]]]:
    """Return every sequence of five numbers in [0, 99] of the three families; four are shown, the fifth is the answer.

    No two families continue the same four numbers differently: `sums` begins with 1 or more, so its first and third
    steps differ, and in the other two they are equal.
    """
    steps = [d for d in range(-6, 7) if d]
    step: list[tuple[int, ...]] = [tuple(range(s, s + 5 * d, d)) for s in range(LARGEST_NUMBER + 1) for d in steps]
    turns: list[tuple[int, ...]] = [(s, s + a, s + a + b, s + 2 * a + b, s + 2 * a + 2 * b)
             for s in range(LARGEST_NUMBER + 1) for a in range(1, 7) for b in steps if a != b]  # fmt: skip
    sums: list[tuple[int, ...]] = [(x, y, x + y, x + 2 * y, 2 * x + 3 * y) for x in range(1, 20) for y in range(1, 20)]
    families: dict[str, list[tuple[int, ...]]] = {"step": step, "turns": turns, "sums": sums}
    return {
        name: [terms for terms in rows if min(terms) >= 0 and max(terms) <= LARGEST_NUMBER]
        for name, rows in families.items()
    }


def sequence(rng: Random) -> Question:
    """Equal steps, two steps in turns, or each number the sum of the two before it."""
    family = rng.choices(["step", "turns", "sums"], [7, 2, 1])[0]
    terms = rng.choice(progressions()[family])
    wording = rng.choice(list(SEQUENCE_WORDINGS))
    shown = [str(t) for t in terms[:4]]
    prompt = SEQUENCE_WORDINGS[wording].format(", ".join(shown))
    difficulty = {"step": 0.0, "turns": 0.5, "sums": 0.8}[family] + 0.2 * (max(terms) > 50)
    return Question(prompt, str(terms[4]), shown[3], wording, family, tuple(shown), (), difficulty)


def count_sequence() -> int:
    """Wordings x all sequences."""
    return len(SEQUENCE_WORDINGS) * sum(len(rows) for rows in progressions().values())


MATH_WORDINGS = {
    "gain": "{n} has {a} {o} and finds {b} more. How many {o} does {n} have now?",
    "lose": "{n} has {a} {o} and loses {b}. How many {o} does {n} have now?",
    "boxes": "{n} fills {a} boxes with {b} {o} each. How many {o} is that?",
    "share": "{n} shares {a} {o} among {b} friends. How many {o} does each get?",
}


@cache
def operands(topic: str) -> list[tuple[int, int, int]]:
    """Return every (a, b, result) that a wording may use."""
    if topic == "gain":
        return [(a, b, a + b) for a, b in product(range(2, 31), range(2, 10))]
    if topic == "lose":
        return [(a, b, a - b) for a, b in product(range(3, 31), range(2, 10)) if a > b]
    tables = product(range(2, 10), range(2, 10))
    return [(a, b, a * b) for a, b in tables] if topic == "boxes" else [(a * b, b, a) for a, b in tables]


def math_word(rng: Random) -> Question:
    """One step of arithmetic: "Ann has 7 apples and finds 5 more. How many apples does Ann have now?"."""
    topic = rng.choice(list(MATH_WORDINGS))
    a, b, result = rng.choice(operands(topic))
    name, thing = rng.choice(NAMES), rng.choice(OBJECTS)
    prompt = MATH_WORDINGS[topic].format(n=name, a=a, b=b, o=thing)
    carries = {"gain": a % 10 + b > 9, "lose": a % 10 < b, "boxes": result > 30, "share": a > 30}[topic]
    difficulty = 0.5 * (topic in ("boxes", "share")) + 0.5 * carries
    return Question(prompt, str(result), str(a), topic, topic, (name, thing, str(a), str(b)), (), difficulty)


def count_math() -> int:
    """Names x objects x operands of every wording."""
    return len(NAMES) * len(OBJECTS) * sum(len(operands(topic)) for topic in MATH_WORDINGS)
