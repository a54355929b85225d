"""Toys: a task that a miniature learns in seconds, and a learner without a model that fails on demand."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from trainables.core import Evaluation, Example, LearnerConfig, Result, RoundResult, Task
from trainables.options import option


@dataclass(frozen=True)
class Letters(Task):
    """A toy task: say the letter that was named, then stop."""

    size: int = 12
    name: ClassVar[str] = "letters"
    max_new_tokens = 4
    chance = 1 / 26

    def _examples(self, start):
        letters = "abcdefghijklmnopqrstuvwxyz"
        return tuple(
            Example(f"{letters[i % 26]}?", letters[i % 26], "letter", f"letter/{i}", i / 26)
            for i in range(start, start + self.size)
        )

    def train(self):
        return self._examples(0)

    def search(self):
        return self._examples(0)

    def test(self):
        return self._examples(self.size)

    def baselines(self):
        return {"constant": 1 / self.size}

    def score(self, example, completion):
        return float(completion.strip() == example.answer)

    def details(self, example, completion):
        return {"lenient": float(example.answer in completion), "unparsed": 0.0}


@dataclass(frozen=True)
class Digits(Task):
    """Nothing to learn from; splits that do not overlap. `spare` questions are left beyond the test split."""

    spare: int = 0
    name: ClassVar[str] = "digits"
    max_new_tokens = 1
    chance = 0.1

    def _examples(self, split, size=20):
        return tuple(Example(f"{split} {i}?", str((7 * i + 3) % 10), "digit", f"{split}/{i}") for i in range(size))

    def train(self):
        return self._examples("train")

    def search(self):
        return self._examples("search")

    def test(self):
        return self._examples("test")

    def test_up_to(self, count):
        return self._examples("test", max(20, min(count, 20 + self.spare)))

    def baselines(self):
        return {"constant": 0.1, "constant.digit": 0.1}

    def score(self, example, completion):
        return float(completion == example.answer)

    def details(self, example, completion):
        return {"lenient": self.score(example, completion), "unparsed": 0.0}


@dataclass(frozen=True)
class ToyConfig(LearnerConfig):
    """Scores `quality` after enough rounds. `planted` goes wrong in round 2, or before; `log` records every round, and
    a state has so many bytes."""

    name: ClassVar[str] = "toy"
    needs_base: ClassVar[bool] = False

    quality: float = 0.5
    planted: str = "nothing"  # nothing, nan, kill (once), error, setup
    seconds: float = 0.0
    log: str = ""
    bytes: int = option(1, shapes_weights=True)

    def build(self, base, task, seed):
        if self.planted == "setup":
            raise RuntimeError("planted in set-up")
        return Toy(self, task)


class Toy:
    def __init__(self, config, task):
        self.config, self.task, self.rounds = config, task, 0

    def round(self):
        time.sleep(self.config.seconds)
        self.rounds += 1
        if self.config.log:
            with open(self.config.log, "a") as log:
                log.write(f"{self.config.quality:.6f} {self.rounds}\n")
        if self.rounds == 2 and self.config.planted == "error":
            raise RuntimeError("planted")
        if self.rounds == 2 and self.config.planted == "kill":
            killed = Path(f"{self.config.log}.killed-{self.config.quality:.6f}")
            if not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        diverges = self.rounds == 2 and self.config.planted == "nan"
        deaf = {"without_gradient": ["ear"]} if self.rounds == 1 and self.config.planted == "nan" else {}
        return RoundResult(float("nan") if diverges else 1.0 / self.rounds, 1, metrics=deaf)

    def evaluate(self, split="search"):
        n = len(self.task.search())
        right = round(n * self.config.quality * min(1.0, 0.4 + 0.2 * self.rounds))
        cut_off = 0.5 if self.config.planted == "kill" else 0.0
        return Evaluation(right / n, [1.0] * right + [0.0] * (n - right), metrics={"truncated": cut_off})

    def state(self):
        return str(self.rounds).encode().ljust(self.config.bytes)

    def load(self, state):
        self.rounds = int(state)

    def save(self, folder):
        Path(folder, "rounds.txt").write_text(str(self.rounds))

    def close(self):
        pass


def untimed(result: Result) -> dict[str, Any]:
    """All but how long it took, which nothing promises."""
    return {name: value for name, value in result.flat().items() if not name.endswith("_seconds")}
