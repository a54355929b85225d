"""A closed world for yes/no questions in StrategyQA's form (facts, decomposition, answer), made of the arena's words.

StrategyQA (Geva et al. 2021) asks what no text says in one place: a question is taken apart into steps, each step finds
a fact, and the answer follows from all of them. Some facts stand in the story of the prompt; others are knowledge that
no prompt tells and that a learner has to bring along, as in the original. Here that is which five of the ten people are
girls; half of the questions show it, one person at a time.

    Ben is shorter than Ann. Cleo is taller than Ann.
        one_hop   Is Ann a girl?
        two_hops  Who is the tallest? Is it a girl?

Of the two ends of a chain, one is a girl and one is not, so neither the names of a story nor how many girls are in it
give a two_hops question away (`tests/test_strategyqa.py` looks for such shortcuts). Its two steps are asked in so many
words because `builtin:tiny` was never taught to take a question apart: it knows who is the tallest when it is asked
that, and at 1.1 million parameters it does not learn to compare two words of its prompt from yes and no alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import NamedTuple

from trainables.tasks.arena_world import ATTRIBUTES, NAMES

GIRLS = frozenset({"Ann", "Cleo", "Eva", "Hana", "Nora"})
LONG = 0.15  # share of the stories with four people, as in the arena


class Riddle(NamedTuple):
    """A question before it becomes an `Example`."""

    prompt: str
    holds: bool  # the answer is Yes
    template: str  # with `entities`, the key
    entities: tuple[str, ...]  # sorted: all orders and wordings of a story share a key
    facts: tuple[str, ...]  # those that the answer needs, in the order of the steps; the last one is knowledge
    decomposition: tuple[str, ...]  # a question for each step; #1 is the first one's answer
    rationale: str  # what each step finds
    difficulty: float  # in [0, 1]


class Story(NamedTuple):
    """A chain of people, the first of whom has most of something, told in any order."""

    topic: str
    chain: list[str]
    told: list[str]

    @property
    def text(self) -> str:
        return " ".join(self.told)


def story(rng: Random) -> Story:
    """Three or four people, with a girl at one end and none at the other."""
    topic = rng.choice(list(ATTRIBUTES))
    more, _, less, _ = ATTRIBUTES[topic]
    while True:
        chain = rng.sample(NAMES, 4 if rng.random() < LONG else 3)
        if (chain[0] in GIRLS) != (chain[-1] in GIRLS):
            break
    told = [
        f"{b} is {less} than {a}." if rng.random() < 0.5 else f"{a} is {more} than {b}." for a, b in pairwise(chain)
    ]
    rng.shuffle(told)
    return Story(topic, chain, told)


def knowledge(who: str) -> str:
    return f"{who} is {'' if who in GIRLS else 'not '}a girl."


def recall(rng: Random) -> Riddle:
    """One step: what is known of somebody in the story."""
    about = story(rng)
    who = rng.choice(about.chain)
    asked, fact = f"Is {who} a girl?", knowledge(who)
    entities = tuple(sorted(about.chain))
    prompt = f"{about.text} {asked}"
    return Riddle(prompt, who in GIRLS, f"recall/{about.topic}", entities, (fact,), (asked,), fact, 0.0)


def compose(rng: Random) -> Riddle:
    """Two steps: who is at an end of the story's chain, and what is known of them."""
    about = story(rng)
    _, most, _, least = ATTRIBUTES[about.topic]
    top = rng.random() < 0.5
    who, word = (about.chain[0], most) if top else (about.chain[-1], least)
    return Riddle(
        f"{about.text} Who is the {word}? Is it a girl?",
        who in GIRLS,
        f"compose/{about.topic}",
        tuple(sorted(about.chain)),
        (*about.told, knowledge(who)),
        (f"Who is the {word}?", "Is #1 a girl?"),
        f"{who} is the {word}. {knowledge(who)}",
        0.5 if len(about.chain) == 3 else 1.0,
    )


KINDS: dict[str, Callable[[Random], Riddle]] = {"one_hop": recall, "two_hops": compose}


def draw(kind: str, rng: Random) -> Riddle:
    """A question of a kind."""
    return KINDS[kind](rng)


def count_stories() -> dict[int, int]:
    """By number of people: attributes x chains with a girl at one end x wordings and orders of the links."""
    ends, among = 2 * len(GIRLS) * (len(NAMES) - len(GIRLS)), len(NAMES) - 2
    return {n: len(ATTRIBUTES) * ends * math.perm(among, n - 2) * 2 ** (n - 1) * math.factorial(n - 1) for n in (3, 4)}


def count_questions() -> dict[str, int]:
    """Distinct questions of each kind: of a story, one for each person, or for each end."""
    stories = count_stories()
    return {"one_hop": sum(n * count for n, count in stories.items()), "two_hops": 2 * sum(stories.values())}
