"""The learner of `lora_ttt`: every ARC task has a seat of its own in one host, many at a time, the others in waves.

A task's numbers depend on its own seed and demonstrations alone: seats do not meet in a host (`host.py`), and between
waves a task is the bytes that it left.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.core import Evaluation, Example, RoundResult, Split, Task
from trainables.learners.arc.answers import check_same, evaluation_of, seed_of, submissions
from trainables.learners.arc.lora_ttt.hyperparameters import LoraTttHyperparameters
from trainables.learners.arc.lora_ttt.task_adapter import Pupil
from trainables.learners.arc.lora_ttt.text import Scribe
from trainables.models.loading import Base
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.task import puzzle

SHARED = "shared"  # the seat of the supervised stage, empty when ARC tasks come


@dataclass(eq=False)
class Desk:
    """An ARC task's learner, and what its seat was after its last round; nothing before its first."""

    pupil: Pupil
    state: bytes = b""


class LoraTttLearner:
    """All tasks of the search split whose questions fit into a row, a `Pupil` each; the others get no answer."""

    def __init__(self, config: LoraTttHyperparameters, base: Base, task: Task, seed: int) -> None:
        self._config, self._task, self._seed = config, task, seed
        own_limit = getattr(base.model.config.get_text_config(), "max_position_embeddings", config.max_length)
        self._scribe = Scribe(base.tokenizer, min(config.max_length, own_limit))
        self._desks = self._open(task.search())
        self._lessons = [*self._open(task.train()).values()] if config.supervised_steps else []
        for split, there in (("search", self._desks), ("train", self._lessons or not config.supervised_steps)):
            if not there:
                remedy = "raise max_length, lower the task's max_side, or take a base that reads more"
                raise ValueError(f"no task of the {split} split fits into {self._scribe.limit} tokens; {remedy}")
        self._shared: dict[str, Tensor] = {}  # where tasks start after the supervised stage
        self._rounds = 0
        seats = config.tasks_at_once
        lanes, answers = seats * config.per_device_train_batch_size, seats * config.votes
        self._host = Host(base, Shape(seats, lanes, answers, max_rank=config.r, max_prompt=0))
        self._seated: dict[str, Desk] = {}

    def round(self) -> RoundResult:
        """`loss` (nats per label token) and `grad_norm`, means over steps and tasks, NaN if one is;
        `trainable_parameters` per task; `too_long`, the share of tasks that get no answer; in the first round
        `supervised_loss`, where there is that stage."""
        metrics = {"supervised_loss": self._supervise()} if self._lessons and not self._rounds else {}
        trained = self._train(self._desks)
        self._rounds += 1
        metrics["grad_norm"] = float(np.mean([own.metrics["grad_norm"] for own in trained]))
        metrics["too_long"] = 1 - len(self._desks) / len(self._task.search())
        loss = float(np.mean([own.loss for own in trained]))
        return RoundResult(loss, trained[0].trainable_parameters, metrics=metrics)

    def evaluate(self, split: Split = "search") -> Evaluation:
        """The search split as trained so far; another split with fresh adapters that get as many steps, on their own
        demonstrations."""
        examples = self._task.split(split)
        desks = self._desks if split == "search" else self._open(examples)
        for _ in range(self._rounds if split != "search" else 0):
            self._train(desks)
        completions = submissions(examples, self._answers(desks, split))
        too_long = 1 - len(desks) / len(examples)
        return evaluation_of(self._task, split, completions).with_metrics({"too_long": too_long})

    def state(self) -> bytes:
        buffer = io.BytesIO()
        tasks = {key: desk.state for key, desk in self._desks.items()}
        torch.save({"rounds": self._rounds, "shared": self._shared, "tasks": tasks}, buffer)
        return buffer.getvalue()

    def load(self, state: bytes) -> None:
        held = torch.load(io.BytesIO(state), map_location="cpu", weights_only=False)
        check_same(held["tasks"], self._desks)
        self._seat({})
        self._desks = self._open(self._task.search())
        for key, desk in self._desks.items():
            desk.state = held["tasks"][key]
        self._rounds, self._shared = held["rounds"], held["shared"]

    def save(self, folder: str) -> None:
        """A PEFT adapter per ARC task, `<folder>/<task>/adapter_model.safetensors` and its configuration."""
        for wave in self._waves(self._desks):
            for key in wave:
                self._host.save(key, str(Path(folder) / key))

    def close(self) -> None:
        """Give the base back untouched."""
        self._seated = {}
        self._host.shut()

    def _open(self, examples: Sequence[Example]) -> dict[str, Desk]:
        """A new pupil for every task that fits."""
        seen = {example.key: puzzle(example) for example in examples}
        steps = self._config.steps_per_round
        return {
            key: Desk(Pupil(self._config, self._scribe, [own], seed_of(key, self._seed), steps))
            for key, own in seen.items()
            if self._scribe.fits(own)
        }

    def _supervise(self) -> float:
        """Train one adapter on the train split, and keep its values; its loss."""
        puzzles = [own for desk in self._lessons for own in desk.pupil.puzzles]
        steps = self._config.supervised_steps
        self._seat({})
        self._host.open(SHARED, Pupil(self._config, self._scribe, puzzles, self._seed, steps), self._seed)
        loss = self._host.round(SHARED).loss
        self._shared = self._host.values(SHARED)
        self._host.close(SHARED)
        return loss

    def _train(self, desks: Mapping[str, Desk]) -> list[RoundResult]:
        """Train a round for every task; return the host's result of each."""
        trained: dict[str, RoundResult] = {}
        for wave in self._waves(desks):
            trained |= self._host.run(dict.fromkeys(wave, "round"))
            for key, desk in wave.items():
                desk.state = self._host.state(key)
        return [trained[key] for key in desks]

    def _answers(self, desks: Mapping[str, Desk], split: Split) -> dict[str, list[tuple[Grid, ...]]]:
        """By task, the attempts for each test input."""
        answers = {}
        for wave in self._waves(desks):
            for key, evaluation in self._host.run(dict.fromkeys(wave, "evaluate"), split).items():
                answers[key] = evaluation.metrics["attempts"]
        return answers

    def _waves(self, desks: Mapping[str, Desk]) -> Iterator[dict[str, Desk]]:
        """As many tasks as there are seats, seated; of like lengths, as only rows of one width share a batch."""
        order, seats = sorted(desks, key=lambda key: desks[key].pupil.length), self._config.tasks_at_once
        for first in range(0, len(order), seats):
            wave = {key: desks[key] for key in order[first : first + seats]}
            self._seat(wave)
            yield wave

    def _seat(self, wave: Mapping[str, Desk]) -> None:
        """These tasks and no others, each as it was left, or as it starts; who sits here already stays."""
        for key in [key for key, desk in self._seated.items() if wave.get(key) is not desk]:
            self._host.close(key)
            del self._seated[key]
        for key, desk in wave.items():
            if key not in self._seated:
                self._host.open(key, desk.pupil, desk.pupil.seed)
                if desk.state or self._shared:
                    self._host.load(key, desk.state or self._start(key))
                self._seated[key] = desk

    def _start(self, key: str) -> bytes:
        """A fresh seat's state, with the shared adapter's values."""
        buffer = io.BytesIO()
        fresh = torch.load(io.BytesIO(self._host.state(key)), map_location="cpu", weights_only=False)
        torch.save(fresh | {"parameters": self._shared}, buffer)
        return buffer.getvalue()
