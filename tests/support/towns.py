"""A sound task, for guards to find the faults that tests plant in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from trainables.core import Example, Task

TOWNS = [f"{a}{b}" for a in ("nor", "sud", "ost", "wes", "alt", "neu") for b in ("burg", "dorf", "heim", "feld", "au")]


def town(number: int) -> Example:
    """A question whose answer is not in it. No two share three words in a row but those of the template."""
    name, other = TOWNS[number % len(TOWNS)], TOWNS[(7 * number + 1) % len(TOWNS)]
    prompt = f"Town {number}, {name}, lies {3 * number} miles behind {other}. Does a river pass {name} or {other}?"
    return Example(prompt, ("yes", "no")[(number // 3) % 2], "town", f"town/{number}")


@dataclass(frozen=True)
class Towns(Task):
    """A sound task of 300 questions to begin with; tests replace its splits."""

    name: ClassVar[str] = "towns"
    max_new_tokens: ClassVar[int] = 2
    chance: ClassVar[float] = 0.5

    splits: dict = field(
        default_factory=lambda: {
            "train": [town(i) for i in range(100)],
            "search": [town(i) for i in range(100, 200)],
            "test": [town(i) for i in range(200, 300)],
        }
    )

    def train(self):
        return self.splits["train"]

    def search(self):
        return self.splits["search"]

    def test(self):
        return self.splits["test"]

    def baselines(self):
        return {"constant": 0.5, "constant.town": 0.9}

    def score(self, example, completion):
        return float(completion == example.answer)

    def details(self, example, completion):
        return {"lenient": 0.0, "unparsed": 0.0}

    def with_split(self, split, examples):
        return Towns({**self.splits, split: list(examples)})
