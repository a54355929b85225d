"""Who answers in the built-in base's pre-training: a stream of conversations about the arena's `pretrain` questions.

At *school* everybody is brief and careful: there the skills come from. In the *world* after it a speaker has a
*style* (the bare answer, a sentence around it, a doubtful one) and a *care* (a careful speaker answers the question,
a careless one blurts out the slip: the other end of the chain, the last number shown, the first one of the story). A
system message may ask for either; what it leaves open follows the topic's habit, and habits differ from topic to
topic. So the model has every skill and every manner, and by default it spreads over the manners as its speakers did.
The arena wants one of them, bare and careful: that is what an adapter has to find. See `docs/results/arena.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from trainables.tasks.arena.kinds import KINDS
from trainables.tasks.arena.task import bucket, key_of

STYLES = {"bare": "{}", "sentence": "The answer is {}.", "doubt": "{}, I think."}
REQUESTS = {  # what a system message says to ask for a style or a care
    "bare": ("Give only the answer.", "Answer briefly.", "Use one word."),
    "sentence": ("Use a full sentence.", "Answer politely.", "Say it in a sentence."),
    "doubt": ("Sound unsure.", "Be modest.", "Say that you only think so."),
    "careful": ("Think well.", "Take care.", "Be right."),
    "careless": ("Do not think.", "Be quick.", "Just guess."),
}
NEUTRAL = ("You are an assistant.", "Hello.", "This is a quiz.")

HABITS: dict[str, tuple[str, str]] = {  # topic -> the style and the care that most of its speakers have
    "height": ("bare", "careful"), "age": ("sentence", "careful"), "speed": ("bare", "careless"),
    "weight": ("doubt", "careful"), "wealth": ("bare", "careful"), "strength": ("sentence", "careless"),
    "next": ("bare", "careful"), "follow": ("sentence", "careful"),
    "continue": ("bare", "careful"), "missing": ("doubt", "careless"),
    "effect": ("bare", "careful"), "origin": ("bare", "careless"),
    "prevented": ("bare", "careful"), "direct": ("sentence", "careful"),
    "gain": ("doubt", "careful"), "lose": ("bare", "careful"),
    "boxes": ("sentence", "careful"), "share": ("bare", "careless"),
    "pet": ("bare", "careful"), "drink": ("sentence", "careless"),
    "tool": ("bare", "careful"), "fruit": ("bare", "careless"),
}  # fmt: skip
FOLLOWS_STYLE, FOLLOWS_CARE = 0.6, 0.65  # how many of a topic's speakers have its habit; the others share the rest
ASKED = 0.55  # how often a system message asks for the style; independently, for the care
WEIGHTS = {"comparison": 4, "sequence": 4, "causal": 4, "math": 4, "logic": 3}  # the slower to learn, the more often


class PretrainingExample(NamedTuple):
    """One exchange, before the chat template."""

    system: str  # empty: no system message
    prompt: str
    answer: str
    key: str


def habit(rng: Random, choices: tuple[str, ...], usual: str, share: float) -> str:
    """`usual` with probability `share`, otherwise one of the other choices."""
    return usual if rng.random() < share else rng.choice([c for c in choices if c != usual])


def conversation(rng: Random, school: bool) -> PretrainingExample | None:
    """One conversation; None: the question drawn is not of the `pretrain` bucket."""
    kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    question = KINDS[kind].draw(rng)
    key = key_of(kind, question)
    if bucket(key) != "pretrain":
        return None
    if school:
        return PretrainingExample("", question.prompt, question.answer, key)
    usual_style, usual_care = HABITS[question.topic]
    style, care, requests = habit(rng, tuple(STYLES), usual_style, FOLLOWS_STYLE), "careful", []
    if rng.random() < ASKED:
        style = rng.choice(list(STYLES))
        requests.append(rng.choice(REQUESTS[style]))
    if rng.random() < ASKED:
        care = "careful" if rng.random() < 0.75 else "careless"
        requests.append(rng.choice(REQUESTS[care]))
    else:
        care = habit(rng, ("careful", "careless"), usual_care, FOLLOWS_CARE)
    if rng.random() < 0.2:
        requests.append(rng.choice(NEUTRAL))
    rng.shuffle(requests)
    answer = question.answer if care == "careful" else question.slip
    return PretrainingExample(" ".join(requests), question.prompt, STYLES[style].format(answer), key)


def stream(seed: int, school: int = 0) -> Iterator[PretrainingExample]:
    """Endless conversations, the first `school` of them at school; the same numbers give the same ones."""
    rng, made = Random(f"{seed}/speakers"), 0
    while True:
        if (drawn := conversation(rng, school=made < school)) is not None:
            yield drawn
            made += 1
