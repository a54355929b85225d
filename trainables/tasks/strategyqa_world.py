"""A closed world for yes/no questions: StrategyQA's form (facts, decomposition, answer), made of the arena's words.

StrategyQA (Geva et al. 2021) asks what no text says in one place: a question is taken apart into steps, each step finds
a fact, and the answer follows from all of them. A small base knows nothing of Aristotle or laptops, so here a story in
the prompt tells everything. Two stories, and from either one question of one step or of two:

    people  Ben is shorter than Ann. Cleo is taller than Ann. Ben has the dog. Cleo has the cat.
            one_hop   Is Ann taller than Ben?   Does Ben have the cat?
            two_hops  Is Ann taller than who has the dog?
    causes  Here rain causes mud, dust causes fear, mud causes noise, fear causes fog.
            one_hop   Does rain lead to mud?
            two_hops  Does rain lead to noise in the end?

Every question has a twin with the other answer that differs in one fact, so no word, no place and no single fact gives
the answer of a two_hops question away; `tests/test_strategyqa.py` counts this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from trainables.tasks.arena_world import ATTRIBUTES, EVENTS, NAMES, THEMES

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


def asked_word(rng: Random, word: str, middle_first: bool) -> tuple[str, bool]:
    """The word of a question about a pair, and whether it holds, where the middle person is `word` than the other."""
    holds = rng.random() < 0.5
    true_word = word if middle_first else OPPOSITE[word]
    return true_word if holds else OPPOSITE[true_word], holds


def compare(rng: Random) -> Riddle:
    """One step: a comparison that the story states, perhaps the other way around."""
    story = people(rng)
    which, middle_first = rng.randrange(2), rng.random() < 0.5
    word, holds = asked_word(rng, story.words[which], middle_first)
    a, b = (story.middle, story.others[which])[:: 1 if middle_first else -1]
    asked = f"Is {a} {word} than {b}?"
    true = f"{a} is {word if holds else OPPOSITE[word]} than {b}."
    fact = str(story.links[which])
    difficulty = 0.25 * (fact.split()[0] != a)
    return Riddle(
        f"{story.text} {asked}", holds, f"compare/{story.topic}", story.entities, (fact,), (asked,), true, difficulty
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
    which, middle_first = rng.randrange(2), rng.random() < 0.5
    word, holds = asked_word(rng, story.words[which], middle_first)
    who, item = story.others[which], f"who has the {story.items[which]}"
    pair = slice(None, None, 1 if middle_first else -1)
    (a, b), (asked_a, asked_b), (step_a, step_b) = ((story.middle, other)[pair] for other in (who, item, "#1"))
    true = f"{a} is {word if holds else OPPOSITE[word]} than {b}."
    fact = str(story.links[which])
    return Riddle(
        f"{story.text} Is {asked_a} {word} than {asked_b}?",
        holds,
        f"owner/{story.topic}",
        story.entities,
        (story.owners[which], fact),
        (f"Who has the {story.items[which]}?", f"Is {step_a} {word} than {step_b}?"),
        f"{story.owners[which]} {true}",
        0.75 + 0.25 * (fact.split()[0] != a),
    )


def causes(rng: Random) -> tuple[str, tuple[list[str], list[str]]]:
    """Two chains of three events, and their links told in any order."""
    events = rng.sample(EVENTS, 6)
    chains = events[:3], events[3:]
    links = [f"{a} causes {b}" for chain in chains for a, b in zip(chain, chain[1:], strict=False)]
    rng.shuffle(links)
    return f"Here {', '.join(links)}.", chains


def effect(rng: Random) -> Riddle:
    """One step: a link that the story states."""
    text, (chain, other) = causes(rng)
    place, holds = rng.randrange(2), rng.random() < 0.5
    a, b = chain[place : place + 2]
    asked = f"Does {a} lead to {b if holds else other[place + 1]}?"
    fact = f"{a} causes {b}."
    return Riddle(f"{text} {asked}", holds, "effect", tuple(sorted(chain + other)), (fact,), (asked,), fact, 0.25)


def chain_end(rng: Random) -> Riddle:
    """Two steps: from the first event of a chain over the second to the third."""
    text, (chain, other) = causes(rng)
    holds = rng.random() < 0.5
    a, b, c = chain
    asked = c if holds else other[2]
    facts = f"{a} causes {b}.", f"{b} causes {c}."
    steps = f"What does {a} cause?", f"Does #1 cause {asked}?"
    prompt, entities = f"{text} Does {a} lead to {asked} in the end?", tuple(sorted(chain + other))
    return Riddle(prompt, holds, "chain", entities, facts, steps, f"{a} causes {b}, {b} causes {c}.", 1.0)


Draw = Callable[[Random], Riddle]
KINDS: dict[str, Sequence[Draw]] = {"one_hop": (compare, have, effect), "two_hops": (owner, chain_end)}


def draw(kind: str, rng: Random) -> Riddle:
    """A question of a kind, its templates equally likely."""
    return rng.choice(KINDS[kind])(rng)


def count_people() -> int:
    """Stories: attributes x ordered people x ordered items of every theme x wordings and orders of the facts."""
    items = sum(math.perm(len(things), 2) for things in THEMES.values())
    return len(ATTRIBUTES) * math.perm(len(NAMES), 3) * items * 2**2 * math.factorial(4)


def count_questions() -> dict[str, int]:
    """Distinct questions of each kind.

    People: a comparison has 2 pairs x 2 directions x 2 words, a possession 2 people x 2 items, an owner 2 items x 2
    directions x 2 words. Causes: ordered events x orders of the links, over 2 for the chains' names; 2 chains x 2 links
    x 2 answers, or 2 chains x 2 answers.
    """
    told = math.perm(len(EVENTS), 6) * math.factorial(4) // 2
    return {"one_hop": count_people() * (8 + 4) + told * 8, "two_hops": count_people() * 8 + told * 4}
