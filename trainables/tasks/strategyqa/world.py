"""A closed world for yes/no questions in StrategyQA's form (facts, decomposition, answer), made of the arena's words.

StrategyQA (Geva et al. 2021) asks what no text says in one place: a question is taken apart into steps, each step finds
a fact, and the answer follows from all of them. Some facts follow from the story of the prompt; others are knowledge
that no prompt tells, and that a learner has to bring along, as in the original. Here that is which numbers are `LUCKY`
and what twenty things are like, `LORE`; half of the questions show it, one number or thing at a time.

    numbers  Ann has 7 pens and finds 5 more.
        one_hop   Is 38 lucky?
        two_hops  How many pens does Ann have now? Is it lucky?
    things   Dan, Hana and Ivo have a pet each: cat, bird, dog. Dan does not have the bird. Ivo has the dog.
        one_hop   Does the bird have fur?
        two_hops  Which pet does Hana have? Does it have fur?

A question of two steps asks them in so many words, because `builtin:tiny` was never taught to take one apart: it knows
how to add and how to solve a grid when it is asked that. Yes and No are equally likely in every kind, family and lore.
Whether a sum is lucky takes its last digit, which follows from no single word of the story. (Whether it is even is too
easy: without any reasoning, an adapter learned the parities of two numbers in 240 steps.) In a grid, the thing that
somebody does not have is the answer of the first step, so things can be learned without solving it:
`tests/trainables/tasks/strategyqa/test_task.py` measures both.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from trainables.tasks.arena.kinds import logic
from trainables.tasks.arena.numbers import math_word
from trainables.tasks.arena.world import LARGEST_NUMBER, Question

SUMS = ("gain", "lose")  # of the arena's word problems: the digits of products and shares are lopsided
LUCKY = "03479"  # a number that ends like this is lucky: two even digits and three odd ones, small ones and large ones


class Lore(NamedTuple):
    """What is known of a theme's things: which of them are so, and how that is asked and said."""

    holds: frozenset[str]
    asked: str  # of "it"
    asked_of: str
    said: str
    denied: str


LORE = {
    "pet": Lore(frozenset({"cat", "dog", "horse"}), "Does it have fur?", "Does the {} have fur?",
                "The {} has fur.", "The {} has no fur."),
    "drink": Lore(frozenset({"tea", "coffee"}), "Is it hot?", "Is the {} hot?", "The {} is hot.", "The {} is not hot."),
    "tool": Lore(frozenset({"hammer", "saw", "drill"}), "Is it made of metal?", "Is the {} made of metal?",
                 "The {} is made of metal.", "The {} is not made of metal."),
    "fruit": Lore(frozenset({"plum", "peach"}), "Does it have a stone?", "Does the {} have a stone?",
                  "The {} has a stone.", "The {} has no stone."),
}  # fmt: skip


class Riddle(NamedTuple):
    """A question before it becomes an `Example`."""

    prompt: str
    holds: bool  # the answer is Yes
    template: str  # with `entities`, the key
    entities: tuple[str, ...]  # those of the arena's question that the story comes from
    facts: tuple[str, ...]  # those that the answer needs, in the order of the steps; the last one is knowledge
    decomposition: tuple[str, ...]  # a question for each step; #1 is the first one's answer
    rationale: str  # what each step finds
    difficulty: float  # in [0, 1]


class Story(NamedTuple):
    """A question of the arena, told apart from what it asks."""

    told: str
    asked: str
    source: Question


def story(question: Question) -> Story:
    told, _, asked = question.prompt.rpartition(". ")
    return Story(f"{told}.", asked, question)


def number(rng: Random) -> Story:
    """Something is found or lost."""
    while True:
        question = math_word(rng)
        if question.topic in SUMS:
            return story(question)


def luck(number: str) -> tuple[bool, str]:
    holds = number[-1] in LUCKY
    return holds, f"{number} is {'' if holds else 'not '}lucky."


def known(theme: str, thing: str) -> tuple[bool, str]:
    lore = LORE[theme]
    return thing in lore.holds, (lore.said if thing in lore.holds else lore.denied).format(thing)


def recall_number(rng: Random) -> Riddle:
    """One step: is some number lucky?"""
    about, asked_of = number(rng), str(rng.randint(0, LARGEST_NUMBER))
    holds, fact = luck(asked_of)
    asked = f"Is {asked_of} lucky?"
    template, entities = f"recall/{about.source.topic}", (*about.source.entities, asked_of)
    return Riddle(f"{about.told} {asked}", holds, template, entities, (fact,), (asked,), fact, 0.0)


def compose_number(rng: Random) -> Riddle:
    """Two steps: how many are there now, and is that lucky?"""
    about = number(rng)
    holds, fact = luck(about.source.answer)
    prompt, first = f"{about.told} {about.asked} Is it lucky?", f"It is {about.source.answer}."
    template, steps = f"compose/{about.source.topic}", (about.asked, "Is #1 lucky?")
    difficulty = 0.5 + 0.5 * about.source.difficulty
    facts = (about.told, fact)
    return Riddle(prompt, holds, template, about.source.entities, facts, steps, f"{first} {fact}", difficulty)


def recall_thing(rng: Random) -> Riddle:
    """One step: what is known of a thing that the story names?"""
    about = story(logic(rng))
    theme, thing = about.source.topic, rng.choice(about.source.candidates)
    holds, fact = known(theme, thing)
    asked, entities = LORE[theme].asked_of.format(thing), about.source.entities
    return Riddle(f"{about.told} {asked}", holds, f"recall/{theme}", entities, (fact,), (asked,), fact, 0.0)


def compose_thing(rng: Random) -> Riddle:
    """Two steps: which thing does somebody have, and what is known of it?"""
    about = story(logic(rng))
    theme, thing = about.source.topic, about.source.answer
    holds, fact = known(theme, thing)
    who = about.asked.split()[-2]
    steps = (about.asked, LORE[theme].asked_of.format("#1").replace("the #1", "#1"))
    prompt, facts = f"{about.told} {about.asked} {LORE[theme].asked}", (about.told, fact)
    rationale = f"{who} has the {thing}. {fact}"
    return Riddle(prompt, holds, f"compose/{theme}", about.source.entities, facts, steps, rationale, 0.5)


KINDS: dict[str, tuple[Callable[[Random], Riddle], ...]] = {
    "one_hop": (recall_number, recall_thing),
    "two_hops": (compose_number, compose_thing),
}


def draw(kind: str, rng: Random, holds: bool) -> Riddle:
    """A question of a kind with this answer: the family first, then what it is about, so that no lore leans."""
    family, theme = rng.choice(KINDS[kind]), rng.choice([*LORE])
    while True:
        riddle = family(rng)
        if riddle.holds == holds and (family in (recall_number, compose_number) or riddle.template.endswith(theme)):
            return riddle
