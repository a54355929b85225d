"""A closed world for yes/no questions in StrategyQA's form (facts, decomposition, answer), made of the arena's words.

A question of StrategyQA (Geva et al. 2021) needs several facts that no single text states. It is decomposed into steps;
each step finds a fact, and the answer follows from all of them. Some facts follow from the story in the prompt. Others
are knowledge that no prompt states, and that a learner must acquire in training, as in the original. Here these are
which numbers are `LUCKY`, and a property of each of twenty things, `KNOWLEDGE`. Half of the questions ask for one such
fact directly.

    numbers  Ann has 7 pens and finds 5 more.
        one_hop   Is 38 lucky?
        two_hops  How many pens does Ann have now? Is it lucky?
    things   Dan, Hana and Ivo have a pet each: cat, bird, dog. Dan does not have the bird. Ivo has the dog.
        one_hop   Does the bird have fur?
        two_hops  Which pet does Hana have? Does it have fur?

A question of two steps states both of them, because `builtin:tiny` was not trained to decompose questions: it can add,
and solve a grid, if the question asks for that. Yes and No are equally likely in every kind, family and theme. Whether
a sum is lucky depends on its last digit, which follows from no single word of the story. (Whether it is even would be
too easy: without any reasoning, an adapter learned the parities of two numbers in 240 steps.) In a grid, the thing that
a person does not have tells the answer of the first step, so things can be learned without solving it:
`tests/trainables/tasks/strategyqa/test_task.py` measures both.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from trainables.tasks.arena.kinds import logic
from trainables.tasks.arena.numbers import math_word
from trainables.tasks.arena.world import LARGEST_NUMBER, Question

SUMS = ("gain", "lose")  # the arena's word problems in use; the last digits of products and shares are unbalanced
LUCKY = "03479"  # last digits of lucky numbers: two even and three odd ones, small and large ones


class Knowledge(NamedTuple):
    """A property of a theme's things: which things have it, and the questions and statements about it."""

    holds: frozenset[str]
    asked: str  # the question about "it"
    asked_of: str
    said: str
    denied: str


KNOWLEDGE = {
    "pet": Knowledge(frozenset({"cat", "dog", "horse"}), "Does it have fur?", "Does the {} have fur?",
                "The {} has fur.", "The {} has no fur."),
    "drink": Knowledge(frozenset({"tea", "coffee"}), "Is it hot?", "Is the {} hot?",
                "The {} is hot.", "The {} is not hot."),
    "tool": Knowledge(frozenset({"hammer", "saw", "drill"}), "Is it made of metal?", "Is the {} made of metal?",
                 "The {} is made of metal.", "The {} is not made of metal."),
    "fruit": Knowledge(frozenset({"plum", "peach"}), "Does it have a stone?", "Does the {} have a stone?",
                  "The {} has a stone.", "The {} has no stone."),
}  # fmt: skip


class GeneratedQuestion(NamedTuple):
    """A question before it becomes an `Example`."""

    prompt: str
    holds: bool  # the answer is Yes
    template: str  # with `entities`, the key
    entities: tuple[str, ...]  # those of the arena's question from which the story is made
    facts: tuple[str, ...]  # facts that the answer needs, in the order of the steps; the last one is knowledge
    decomposition: tuple[str, ...]  # a question for each step; #1 is the first one's answer
    rationale: str  # what each step finds
    difficulty: float  # in [0, 1]


class Story(NamedTuple):
    """A question of the arena, split into its statements and what it asks."""

    statements: str
    asked: str
    source: Question


def story(question: Question) -> Story:
    statements, _, asked = question.prompt.rpartition(". ")
    return Story(f"{statements}.", asked, question)


def number(rng: Random) -> Story:
    """Draw a word problem in which things are found or lost."""
    while True:
        question = math_word(rng)
        if question.topic in SUMS:
            return story(question)


def luck(number: str) -> tuple[bool, str]:
    holds = number[-1] in LUCKY
    return holds, f"{number} is {'' if holds else 'not '}lucky."


def known(theme: str, thing: str) -> tuple[bool, str]:
    knowledge = KNOWLEDGE[theme]
    return thing in knowledge.holds, (knowledge.said if thing in knowledge.holds else knowledge.denied).format(thing)


def recall_number(rng: Random) -> GeneratedQuestion:
    """Draw a question of one step: is a number lucky?"""
    about, asked_of = number(rng), str(rng.randint(0, LARGEST_NUMBER))
    holds, fact = luck(asked_of)
    asked = f"Is {asked_of} lucky?"
    template, entities = f"recall/{about.source.topic}", (*about.source.entities, asked_of)
    return GeneratedQuestion(f"{about.statements} {asked}", holds, template, entities, (fact,), (asked,), fact, 0.0)


def compose_number(rng: Random) -> GeneratedQuestion:
    """Draw a question of two steps: how many are there now, and is that number lucky?"""
    about = number(rng)
    holds, fact = luck(about.source.answer)
    prompt, first = f"{about.statements} {about.asked} Is it lucky?", f"It is {about.source.answer}."
    template, steps = f"compose/{about.source.topic}", (about.asked, "Is #1 lucky?")
    difficulty = 0.5 + 0.5 * about.source.difficulty
    facts = (about.statements, fact)
    return GeneratedQuestion(
        prompt, holds, template, about.source.entities, facts, steps, f"{first} {fact}", difficulty
    )


def recall_thing(rng: Random) -> GeneratedQuestion:
    """Draw a question of one step: does a thing in the story have its theme's property?"""
    about = story(logic(rng))
    theme, thing = about.source.topic, rng.choice(about.source.candidates)
    holds, fact = known(theme, thing)
    asked, entities = KNOWLEDGE[theme].asked_of.format(thing), about.source.entities
    return GeneratedQuestion(
        f"{about.statements} {asked}", holds, f"recall/{theme}", entities, (fact,), (asked,), fact, 0.0
    )


def compose_thing(rng: Random) -> GeneratedQuestion:
    """Draw a question of two steps: which thing does a person have, and has it the property?"""
    about = story(logic(rng))
    theme, thing = about.source.topic, about.source.answer
    holds, fact = known(theme, thing)
    who = about.asked.split()[-2]
    steps = (about.asked, KNOWLEDGE[theme].asked_of.format("#1").replace("the #1", "#1"))
    prompt, facts = f"{about.statements} {about.asked} {KNOWLEDGE[theme].asked}", (about.statements, fact)
    rationale = f"{who} has the {thing}. {fact}"
    return GeneratedQuestion(prompt, holds, f"compose/{theme}", about.source.entities, facts, steps, rationale, 0.5)


KINDS: dict[str, tuple[Callable[[Random], GeneratedQuestion], ...]] = {
    "one_hop": (recall_number, recall_thing),
    "two_hops": (compose_number, compose_thing),
}


def draw(kind: str, rng: Random, holds: bool) -> GeneratedQuestion:
    """Draw a question of a kind with this answer.

    The family is drawn first, then the theme, so that answers are balanced within each theme.
    """
    family, theme = rng.choice(KINDS[kind]), rng.choice([*KNOWLEDGE])
    while True:
        question = family(rng)
        if question.holds == holds and (family in (recall_number, compose_number) or question.template.endswith(theme)):
            return question
