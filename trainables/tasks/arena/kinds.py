"""The arena's five kinds of question: a generator for each, and a function that counts its distinct questions.

A generator takes a `random.Random` and returns a `Question`. The vocabulary is small on purpose (10 names, 10 events,
numbers below 100), so that a model of about a million parameters can learn the skills in its pre-training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise, permutations, product
from random import Random
from typing import NamedTuple

from trainables.tasks.arena.numbers import (
    MATH_WORDINGS,
    SEQUENCE_WORDINGS,
    count_math,
    count_sequence,
    math_word,
    sequence,
)
from trainables.tasks.arena.world import ATTRIBUTES, EVENTS, NAMES, THEMES, Question


class Kind(NamedTuple):
    """One kind of question: its generator, the number of distinct questions it can ask, and its topics."""

    draw: Callable[[Random], Question]
    questions: Callable[[], int]
    topics: tuple[str, ...]


def comparison(rng: Random) -> Question:
    """A chain of three or four people: "Ann is taller than Ben. Cleo is shorter than Ben. Who is the tallest?"."""
    topic = rng.choice(list(ATTRIBUTES))
    more, most, less, least = ATTRIBUTES[topic]
    chain = rng.sample(NAMES, 4 if rng.random() < 0.15 else 3)
    links = list(pairwise(chain))
    rng.shuffle(links)
    turned = [rng.random() < 0.5 for _ in links]
    facts = [
        f"{b} is {less} than {a}." if t else f"{a} is {more} than {b}." for (a, b), t in zip(links, turned, strict=True)
    ]
    top = rng.random() < 0.5
    answer, slip = (chain[0], chain[-1]) if top else (chain[-1], chain[0])
    prompt = f"{' '.join(facts)} Who is the {most if top else least}?"
    people = tuple(sorted(chain))
    difficulty = 0.5 * (len(chain) == 4) + 0.5 * (len(set(turned)) == 2)
    return Question(prompt, answer, slip, topic, topic, people, people, difficulty)


def count_comparison() -> int:
    """Attributes x two directions asked x (ordered chains x orders of the facts x two wordings of each fact)."""
    chains = {n: math.perm(len(NAMES), n) * math.factorial(n - 1) * 2 ** (n - 1) for n in (3, 4)}
    return len(ATTRIBUTES) * 2 * sum(chains.values())


CAUSAL_WORDINGS = {  # placeholders name events of the chain a -> ... -> y -> z
    "effect": "What does {a} lead to in the end?",
    "origin": "Where does {z} come from at first?",
    "prevented": "If {y} is prevented, what else does not happen?",
    "direct": "What causes {z} directly?",
}


def causal(rng: Random) -> Question:
    """A chain of causes and a cause beside it: "Here rain causes mud, dust causes fear, mud causes noise. ..."."""
    topic = rng.choice(list(CAUSAL_WORDINGS))
    length = 4 if rng.random() < 0.15 else 3
    events = rng.sample(EVENTS, length + 2)
    chain, beside = events[:length], events[length:]
    links = [*pairwise(chain), tuple(beside)]
    rng.shuffle(links)
    first, before, last = chain[0], chain[-2], chain[-1]
    asked = CAUSAL_WORDINGS[topic].format(a=first, y=before, z=last)
    answer = {"effect": last, "origin": first, "prevented": last, "direct": before}[topic]
    slip = {"effect": chain[1], "origin": before, "prevented": chain[-3], "direct": chain[-3]}[topic]
    prompt = f"Here {', '.join(f'{a} causes {b}' for a, b in links)}. {asked}"
    named = tuple(sorted(events))
    difficulty = 0.5 * (length == 4) + 0.5 * (topic in ("effect", "origin"))
    return Question(prompt, answer, slip, topic, topic, named, named, difficulty)


def count_causal() -> int:
    """Wordings x ordered events x orders of the links."""
    return len(CAUSAL_WORDINGS) * sum(math.perm(len(EVENTS), n + 2) * math.factorial(n) for n in (3, 4))


Clue = tuple[int, bool, int]  # person, has it or not, item


def answers_left(asked: int, clues: Sequence[Clue]) -> set[int]:
    """Return the items that person `asked` may have: those of all assignments of three items that agree with the
    clues."""
    fits = (grid for grid in permutations(range(3)) if all((grid[who] == item) == has for who, has, item in clues))
    return {grid[asked] for grid in fits}


@cache
def puzzles() -> list[tuple[int, tuple[Clue, Clue], int]]:
    """Return every (person asked, two clues, item) whose clues determine the answer, and for which both are needed.

    No clue is about the person asked, and at most one says who has an item. People and items are numbers 0 to 2.
    """
    found = []
    for asked in range(3):
        clues = [clue for clue in product(range(3), (True, False), range(3)) if clue[0] != asked]
        for chosen in permutations(clues, 2):
            if sum(has for _, has, _ in chosen) > 1 or len(left := answers_left(asked, chosen)) != 1:
                continue
            if all(len(answers_left(asked, [clue])) > 1 for clue in chosen):
                found.append((asked, chosen, left.pop()))
    return found


def logic(rng: Random) -> Question:
    """A grid of three people and three items, determined by two clues."""
    theme = rng.choice(list(THEMES))
    names, items = rng.sample(NAMES, 3), rng.sample(THEMES[theme], 3)
    asked, clues, item = rng.choice(puzzles())
    facts = [f"{names[w]} {'has' if has else 'does not have'} the {items[i]}." for w, has, i in clues]
    listed = f"{names[0]}, {names[1]} and {names[2]} have a {theme} each: {items[0]}, {items[1]}, {items[2]}."
    prompt = f"{listed} {' '.join(facts)} Which {theme} does {names[asked]} have?"
    slip = next((items[i] for _, _, i in reversed(clues) if i != item), items[item - 1])
    difficulty = float(not any(has for _, has, _ in clues))
    entities = (*sorted(names), *sorted(items))
    return Question(prompt, items[item], slip, theme, theme, entities, tuple(sorted(items)), difficulty)


def count_logic() -> int:
    """Ordered names x ordered items of every theme x puzzles."""
    items = sum(math.perm(len(things), 3) for things in THEMES.values())
    return math.perm(len(NAMES), 3) * items * len(puzzles())


KINDS: dict[str, Kind] = {
    "comparison": Kind(comparison, count_comparison, tuple(ATTRIBUTES)),
    "sequence": Kind(sequence, count_sequence, tuple(SEQUENCE_WORDINGS)),
    "causal": Kind(causal, count_causal, tuple(CAUSAL_WORDINGS)),
    "math": Kind(math_word, count_math, tuple(MATH_WORDINGS)),
    "logic": Kind(logic, count_logic, tuple(THEMES)),
}
