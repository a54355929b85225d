"""A closed world for yes/no questions: StrategyQA's form (facts, decomposition, answer), made of the arena's words.

StrategyQA (Geva et al. 2021) asks what no text says in one place: a question is taken apart into steps, each step finds
a fact, and the answer follows from all of them. A small base knows nothing of Aristotle or laptops, so here a story in
the prompt tells everything, one person between two others who have an item each:

    Ben is shorter than Ann. Cleo is taller than Ann. Ben has the dog. Cleo has the cat.
    one_hop   Is Ben taller than Ann?   Does Ben have the cat?
    two_hops  Is who has the dog taller than Ann?

Of two_hops every story answers one question with Yes and one with No, and a story with the items exchanged the other
way around, so no word, no place and no single fact gives an answer away; `tests/test_strategyqa.py` counts this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from trainables.tasks.arena_world import ATTRIBUTES, NAMES, THEMES

OPPOSITE = {a: b for more, _, less, _ in ATTRIBUTES.values() for a, b in ((more, less), (less, more))}


class Riddle(NamedTuple):
    """A question before it becomes an `Example`."""

    prompt: str
    holds: bool  # the answer is Yes
    template: str  # with `entities`, the key
    entities: tuple[str, ...]  # sorted: all orders and wordings of a story share a key
    facts: tuple[str, ...]  # those that the answer needs, as the prompt words them, in the order of the steps
    decomposition: tuple[str, ...]  # a question for each step; #1 is the first one's answer
    rationale: str  # the needed facts, turned the way they are asked about
    difficulty: float  # in [0, 1]


class Comparison(NamedTuple):
    """`first` is `word` than `second`, and how the story says it: the other way around if `turned`."""

    first: str
    word: str
    second: str
    turned: bool

    def __str__(self) -> str:
        if self.turned:
            return f"{self.second} is {OPPOSITE[self.word]} than {self.first}."
        return f"{self.first} is {self.word} than {self.second}."


class People(NamedTuple):
    """One person between two others, who have an item each."""

    topic: str
    middle: str
    others: tuple[str, str]
    words: tuple[str, str]  # the middle one is this than each other: one word and its opposite
    items: tuple[str, str]  # of the others
    links: tuple[Comparison, Comparison]
    text: str

    @property
    def owners(self) -> tuple[str, ...]:
        return tuple(f"{who} has the {item}." for who, item in zip(self.others, self.items, strict=True))

    @property
    def entities(self) -> tuple[str, ...]:
        return (*sorted((self.middle, *self.others)), *sorted(self.items))


def people(rng: Random) -> People:
    topic = rng.choice(list(ATTRIBUTES))
    more, _, less, _ = ATTRIBUTES[topic]
    middle, one, other = rng.sample(NAMES, 3)
    items = rng.sample(THEMES[rng.choice(list(THEMES))], 2)
    links = (Comparison(middle, more, one, rng.random() < 0.5), Comparison(middle, less, other, rng.random() < 0.5))
    story = People(topic, middle, (one, other), (more, less), (items[0], items[1]), links, "")
    facts = [*map(str, links), *story.owners]
    rng.shuffle(facts)
    return story._replace(text=" ".join(facts))


def compare(rng: Random) -> Riddle:
    """One step: a comparison that the story states, perhaps the other way around."""
    story = people(rng)
    which = rng.randrange(2)
    other, fact = story.others[which], story.links[which]
    more, less = story.words
    asked = f"Is {other} {more} than {story.middle}?"
    true = f"{other} is {(less, more)[which]} than {story.middle}."
    return Riddle(
        f"{story.text} {asked}",
        which == 1,
        f"compare/{story.topic}",
        story.entities,
        (str(fact),),
        (asked,),
        true,
        0.25 * (not fact.turned),
    )


def have(rng: Random) -> Riddle:
    """One step: who has what."""
    story = people(rng)
    which, holds = rng.randrange(2), rng.random() < 0.5
    asked = f"Does {story.others[which]} have the {story.items[which if holds else 1 - which]}?"
    fact = story.owners[which]
    return Riddle(f"{story.text} {asked}", holds, f"have/{story.topic}", story.entities, (fact,), (asked,), fact, 0.0)


def owner(rng: Random) -> Riddle:
    """Two steps: who has the item, then a comparison with that person."""
    story = people(rng)
    which = rng.randrange(2)
    other, item, fact, owns = story.others[which], story.items[which], story.links[which], story.owners[which]
    more, less = story.words
    asked = f"Is who has the {item} {more} than {story.middle}?"
    true = f"{other} is {(less, more)[which]} than {story.middle}."
    return Riddle(
        f"{story.text} {asked}",
        which == 1,
        f"owner/{story.topic}",
        story.entities,
        (owns, str(fact)),
        (f"Who has the {item}?", f"Is #1 {more} than {story.middle}?"),
        f"{owns} {true}",
        0.75 + 0.25 * (not fact.turned),
    )


Draw = Callable[[Random], Riddle]
KINDS: dict[str, Sequence[Draw]] = {"one_hop": (compare, have), "two_hops": (owner,)}


def draw(kind: str, rng: Random) -> Riddle:
    """A question of a kind, its templates equally likely."""
    return rng.choice(KINDS[kind])(rng)


def count_people() -> int:
    """Stories: attributes x ordered people x ordered items of every theme x wordings and orders of the facts."""
    items = sum(math.perm(len(things), 2) for things in THEMES.values())
    return len(ATTRIBUTES) * math.perm(len(NAMES), 3) * items * 2**2 * math.factorial(4)


def count_questions() -> dict[str, int]:
    """Distinct questions of each kind. Of a story: 2 comparisons and 2 people x 2 items, or the owners of 2 items."""
    return {"one_hop": count_people() * (2 + 4), "two_hops": count_people() * 2}
