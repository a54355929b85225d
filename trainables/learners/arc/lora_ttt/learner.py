"""lora_ttt: a LoRA adapter per ARC task, trained at test time on that task's demonstrations alone; the base is frozen.

Source: Akyurek et al. 2024, "The Surprising Effectiveness of Test-Time Training for Few-Shot Learning" (arXiv
2411.07279): leave-one-out demonstrations under random turns and colours. Each test input is answered under several
views; the answers are counted, or weighed by their probability under all views: that paper and Franzen et al. 2024,
"The LLM ARChitect".

Every ARC task has its own seat in one host. There are `tasks_at_once` seats: a batch of tasks trains and answers
together, then its adapters are saved as bytes and the next batch takes the seats. Seats do not influence each other
(`packed/host.py`), so a task's numbers depend on its own seed and demonstrations alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from trainables.core import Evaluation, Example, RoundResult, Split, Task
from trainables.learners.arc.answers import check_same, evaluation_of, seed_of, submissions
from trainables.learners.arc.lora_ttt.hyperparameters import LoraTttHyperparameters
from trainables.learners.arc.lora_ttt.task_learner import TaskLearner
from trainables.learners.arc.lora_ttt.text import GridTokenizer
from trainables.models.loading import Base
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.states import pack, unpack
from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.task import puzzle

SHARED = "shared"  # the seat of the supervised stage; it is free again before ARC tasks are trained


@dataclass(frozen=True)
class LoraTttConfig(LoraTttHyperparameters):
    name: ClassVar[str] = "lora_ttt"

    def build(self, base: Any, task: Task, seed: int) -> LoraTttLearner:
        """Raise ValueError if no task of a split fits into `max_length` tokens."""
        return LoraTttLearner(self, base, task, seed)


@dataclass(eq=False)
class TaskState:
    """An ARC task's learner, and its seat's state after its last round (empty before the first)."""

    learner: TaskLearner
    state: bytes = b""


TaskStates = Mapping[str, TaskState]  # by the ARC task's key


class LoraTttLearner:
    """A `TaskLearner` for every ARC task whose questions fit into a row; the other tasks get no answer."""

    def __init__(self, config: LoraTttHyperparameters, base: Base, task: Task, seed: int) -> None:
        self._config, self._task, self._seed = config, task, seed
        base_limit = getattr(base.model.config.get_text_config(), "max_position_embeddings", config.max_length)
        self._tokenizer = GridTokenizer(base.tokenizer, min(config.max_length, base_limit))
        self._tasks = self._open(task.search())
        self._train_tasks = [*self._open(task.train()).values()] if config.supervised_steps else []
        for split, fits in (("search", self._tasks), ("train", self._train_tasks or not config.supervised_steps)):
            if not fits:
                remedy = "raise max_length, lower the task's max_side, or take a base that reads more"
                raise ValueError(f"no task of the {split} split fits into {self._tokenizer.limit} tokens; {remedy}")
        self._shared: dict[str, Tensor] = {}  # adapter values from which tasks start after the supervised stage
        self._rounds = 0
        seats = config.tasks_at_once
        lanes, answers = seats * config.per_device_train_batch_size, seats * config.votes
        self._host = Host(base, Shape(seats, lanes, answers, max_rank=config.r, max_prompt=0))
        self._seated: dict[str, TaskState] = {}

    def round(self) -> RoundResult:
        """Train every task for `steps_per_round` steps, after the supervised stage in the first round.

        `loss` (nats per label token) and `grad_norm` are means over steps and tasks, NaN if one is NaN;
        `trainable_parameters` is per task; `too_long` is the share of tasks that get no answer; `supervised_loss` is
        the supervised stage's loss, in the first round and where there is that stage.
        """
        metrics = {"supervised_loss": self._supervise()} if self._train_tasks and not self._rounds else {}
        trained = self._train(self._tasks)
        self._rounds += 1
        metrics["grad_norm"] = float(np.mean([one.metrics["grad_norm"] for one in trained]))
        metrics["too_long"] = 1 - len(self._tasks) / len(self._task.search())
        loss = float(np.mean([one.loss for one in trained]))
        return RoundResult(loss, trained[0].trainable_parameters, metrics=metrics)

    def evaluate(self, split: Split = "search") -> Evaluation:
        """Answer a split: the search split as trained so far; another split with fresh adapters, trained for as many
        rounds on their own demonstrations."""
        examples = self._task.split(split)
        tasks = self._tasks if split == "search" else self._open(examples)
        for _ in range(self._rounds if split != "search" else 0):
            self._train(tasks)
        completions = submissions(examples, self._answers(tasks, split))
        too_long = 1 - len(tasks) / len(examples)
        return evaluation_of(self._task, split, completions).with_metrics({"too_long": too_long})

    def state(self) -> bytes:
        tasks = {key: task.state for key, task in self._tasks.items()}
        return pack({"rounds": self._rounds, "shared": self._shared, "tasks": tasks})

    def load(self, state: bytes) -> None:
        """Raise ValueError for the state of a learner with other ARC tasks."""
        held = unpack(state)
        check_same(held["tasks"], self._tasks)
        self._seat({})
        self._tasks = self._open(self._task.search())
        for key, task in self._tasks.items():
            task.state = held["tasks"][key]
        self._rounds, self._shared = held["rounds"], held["shared"]

    def save(self, folder: str) -> None:
        """Write a PEFT adapter per ARC task: `<folder>/<task>/adapter_model.safetensors` and its configuration."""
        for batch in self._batches(self._tasks):
            for key in batch:
                self._host.save(key, str(Path(folder) / key))

    def close(self) -> None:
        """Remove all adapters from the base."""
        self._seated = {}
        self._host.shut()

    def _open(self, examples: Sequence[Example]) -> dict[str, TaskState]:
        """Return a new learner for every task that fits, by key."""
        puzzles = {example.key: puzzle(example) for example in examples}
        steps = self._config.steps_per_round
        return {
            key: TaskState(TaskLearner(self._config, self._tokenizer, [own], seed_of(key, self._seed), steps))
            for key, own in puzzles.items()
            if self._tokenizer.fits(own)
        }

    def _supervise(self) -> float:
        """Train one adapter on the train split, keep its values, and return its loss."""
        puzzles = [own for task in self._train_tasks for own in task.learner.puzzles]
        steps = self._config.supervised_steps
        self._seat({})
        self._host.open(SHARED, TaskLearner(self._config, self._tokenizer, puzzles, self._seed, steps), self._seed)
        loss = self._host.round(SHARED).loss
        self._shared = self._host.values(SHARED)
        self._host.close(SHARED)
        return loss

    def _train(self, tasks: TaskStates) -> list[RoundResult]:
        """Train every task for a round and return the host's result of each, in the order of `tasks`."""
        trained: dict[str, RoundResult] = {}
        for batch in self._batches(tasks):
            trained |= self._host.run(dict.fromkeys(batch, "round"))
            for key, task in batch.items():
                task.state = self._host.state(key)
        return [trained[key] for key in tasks]

    def _answers(self, tasks: TaskStates, split: Split) -> dict[str, list[tuple[Grid, ...]]]:
        """Return each task's attempts for each of its test inputs."""
        answers = {}
        for batch in self._batches(tasks):
            for key, evaluation in self._host.run(dict.fromkeys(batch, "evaluate"), split).items():
                answers[key] = evaluation.metrics["attempts"]
        return answers

    def _batches(self, tasks: TaskStates) -> Iterator[dict[str, TaskState]]:
        """Seat and yield as many tasks as there are seats, again and again. Tasks of similar length share a batch,
        because a host joins only rows of one width."""
        order, seats = sorted(tasks, key=lambda key: tasks[key].learner.length), self._config.tasks_at_once
        for first in range(0, len(order), seats):
            batch = {key: tasks[key] for key in order[first : first + seats]}
            self._seat(batch)
            yield batch

    def _seat(self, batch: TaskStates) -> None:
        """Give exactly these tasks a seat, each with its last or its initial state. Tasks that have a seat keep it."""
        for key in [key for key, task in self._seated.items() if batch.get(key) is not task]:
            self._host.close(key)
            del self._seated[key]
        for key, task in batch.items():
            if key not in self._seated:
                self._host.open(key, task.learner, task.learner.seed)
                if task.state or self._shared:
                    self._host.load(key, task.state or self._initial_state(key))
                self._seated[key] = task

    def _initial_state(self, key: str) -> bytes:
        """Return a new seat's state with the values of the shared adapter."""
        return pack(unpack(self._host.state(key)) | {"parameters": self._shared})
