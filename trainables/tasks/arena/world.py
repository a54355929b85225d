"""The vocabulary of the arena's questions, and the type `Question`."""

from __future__ import annotations

from typing import NamedTuple

NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn", "Hana", "Ivo", "Max", "Nora")
EVENTS = ("rain", "wind", "smoke", "noise", "frost", "dust", "fear", "mud", "fog", "fire")
OBJECTS = ("apples", "coins", "books", "cards", "shells", "eggs", "pens", "nuts")
THEMES = {
    "pet": ("cat", "dog", "bird", "fish", "horse"),
    "drink": ("tea", "milk", "juice", "water", "coffee"),
    "tool": ("hammer", "saw", "drill", "rope", "ladder"),
    "fruit": ("pear", "plum", "fig", "lemon", "peach"),
}
ATTRIBUTES = {  # comparative, superlative, and their opposites
    "height": ("taller", "tallest", "shorter", "shortest"),
    "age": ("older", "oldest", "younger", "youngest"),
    "speed": ("faster", "fastest", "slower", "slowest"),
    "weight": ("heavier", "heaviest", "lighter", "lightest"),
    "wealth": ("richer", "richest", "poorer", "poorest"),
    "strength": ("stronger", "strongest", "weaker", "weakest"),
}
LARGEST_NUMBER = 99


class Question(NamedTuple):
    """A question before it becomes an `Example`. `slip` is the most plausible wrong answer, a word of the text."""

    prompt: str
    answer: str
    slip: str
    topic: str  # the subject of the question, or its wording
    template: str  # with `entities`, the key
    entities: tuple[str, ...]  # sorted, unless the answer depends on their order
    candidates: tuple[str, ...]  # the admissible answers; empty means any whole number from 0 to LARGEST_NUMBER
    difficulty: float  # in [0, 1]
