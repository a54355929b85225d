"""The pre-training data of the built-in base: a stream of conversations about the arena's `pretrain` questions.

In the first part, which teaches the skills, all answers are right and bare. In the second part an answer has a *style*
(the bare answer, a sentence around it, or a doubtful sentence) and a *care*: a careful answer is right, a careless one
is the question's `slip` (the other end of the chain, the last number shown, the first number of the story). A system
message may ask for a style or a care. Otherwise both follow a distribution that differs from topic to topic, `HABITS`.
So the model has all skills and styles, and by default it samples styles as in its data. The arena's score accepts one
style, bare and careful, which an adapter has to learn. See `docs/results/arena.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from trainables.tasks.arena.kinds import KINDS
from trainables.tasks.arena.task import bucket, key_of

STYLES = {"bare": "{}", "sentence": "The answer is {}.", "doubt": "{}, I think."}
REQUESTS = {  # system messages that ask for a style or a care
    "bare": ("Give only the answer.", "Answer briefly.", "Use one word."),
    "sentence": ("Use a full sentence.", "Answer politely.", "Say it in a sentence."),
    "doubt": ("Sound unsure.", "Be modest.", "Say that you only think so."),
    "careful": ("Think well.", "Take care.", "Be right."),
    "careless": ("Do not think.", "Be quick.", "Just guess."),
}
NEUTRAL = ("You are an assistant.", "Hello.", "This is a quiz.")

HABITS: dict[str, tuple[str, str]] = {  # topic -> its most frequent style and care
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
FOLLOWS_STYLE, FOLLOWS_CARE = 0.6, 0.65  # share of the topic's habit; the other styles and cares share the rest
ASKED = 0.55  # share of conversations whose system message asks for the style; and, independently, for the care
WEIGHTS = {
    "comparison": 4,
    "sequence": 4,
    "causal": 4,
    "math": 4,
    "logic": 3,
}  # slow kinds are more frequent


class PretrainingExample(NamedTuple):
    """One question and its answer, before the chat template."""

    system: str  # empty: no system message
    prompt: str
    answer: str
    key: str


def habit(rng: Random, choices: tuple[str, ...], usual: str, share: float) -> str:
    """Return `usual` with probability `share`, otherwise one of the other choices."""
    return usual if rng.random() < share else rng.choice([c for c in choices if c != usual])


def conversation(rng: Random, skills_only: bool) -> PretrainingExample | None:
    """Draw a conversation; None if the question is not of the `pretrain` bucket."""
    kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    question = KINDS[kind].draw(rng)
    key = key_of(kind, question)
    if bucket(key) != "pretrain":
        return None
    if skills_only:
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


def stream(seed: int, skills: int = 0) -> Iterator[PretrainingExample]:
    """Yield conversations without end, the first `skills` of them bare and right. Equal arguments give equal
    streams."""
    rng, made = Random(f"{seed}/speakers"), 0
    while True:
        if (drawn := conversation(rng, skills_only=made < skills)) is not None:
            yield drawn
            made += 1
