"""The base class of learners on a language model: the order of the data, the loss, and the scoring of completions.

Mode `online` trains on one new example at a time, mode `batched` on shuffled passes over the training split. Optional
replay mixes past examples into every micro-batch; an optional curriculum sorts the first pass from easy to hard. What
is trained is the subclass's `adapter()`; the base stays frozen.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self

from trainables.core import Adapter, Complete, Completion, Evaluation, LearnerConfig, Queries, Read, Row, Split, Task
from trainables.learners.lm.calibration import calibration_error, confidence
from trainables.learners.lm.likelihood import likelihood, ranked_by_likelihood
from trainables.models.tokenization import decode, encode_prompt, encode_row
from trainables.optimizer import Optimizer, OptimizerConfig
from trainables.options import option


@dataclass(frozen=True)
class LanguageConfig(OptimizerConfig, LearnerConfig):
    """Fields of every learner on a language model. A learner adds its adapter's fields and `adapter()`."""

    least_rows_per_round: ClassVar[int] = 1  # 0 if the learner computes the length of a round itself

    mode: Literal["batched", "online"] = option(
        "batched", reserve=("online", "batched")
    )  # online: a micro-batch is one new example
    per_device_train_batch_size: int = option(8, reserve=True)  # rows in a micro-batch (batched)
    rows_per_round: int = 160  # training rows between two evaluations, whatever the batch, so that rounds compare
    steps_per_round: int = 0  # optimizer steps between two evaluations; 0: as rows_per_round requires
    schedule_rounds: int = 0  # rounds after which linear and cosine reach zero; 0: a sweep sets its number of rounds
    replay_ratio: float = option(
        0.0, reserve=True
    )  # past examples per new one; with a fraction, some micro-batches have one row more
    curriculum: bool = False  # sort the first pass from easy to hard
    watch_updates: bool = False  # online: report the prediction before and after every update

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds = {"per_device_train_batch_size": 1, "steps_per_round": 0, "schedule_rounds": 0}
        for name, least in (bounds | {"rows_per_round": self.least_rows_per_round}).items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not 0 <= self.replay_ratio < math.inf:
            raise ValueError(f"replay_ratio is {self.replay_ratio}; it must be a finite number >= 0")

    def new_rows(self) -> int:
        """Return the rows of a micro-batch that are not replayed."""
        return 1 if self.mode == "online" else self.per_device_train_batch_size

    def rows_per_batch(self) -> int:
        """Return the largest number of rows in a micro-batch, replay included."""
        return self.new_rows() + math.ceil(self.replay_ratio * self.new_rows())

    def steps_in(self, rows: int | Fraction) -> Fraction:
        """Return the optimizer steps that take so many rows; it may be a fraction. Replayed rows are not counted."""
        return Fraction(rows) / (self.new_rows() * self.gradient_accumulation_steps)

    def steps_of_round(self) -> Fraction:
        """Return the optimizer steps of a round, at least 1. With a fraction, rounds differ by one step."""
        return max(Fraction(1), Fraction(self.steps_per_round) or self.steps_in(self.rows_per_round))

    def for_rounds(self, rounds: int) -> Self:
        return self if self.schedule_rounds else replace(self, schedule_rounds=rounds)

    def optimizer(self, prompt_learning_rate: float | None = None) -> Optimizer:
        """Return the settings of the optimizer. Raise ValueError for a schedule without an end."""
        if self.lr_scheduler_type != "constant" and not self.schedule_rounds:
            raise ValueError(
                f"lr_scheduler_type is {self.lr_scheduler_type!r} and schedule_rounds is 0, which a sweep sets;"
                " outside of a sweep, set schedule_rounds to the number of rounds"
            )
        total = math.ceil(self.schedule_rounds * self.steps_of_round())
        return Optimizer.of(self, total, prompt_learning_rate)


@dataclass(frozen=True)
class AloneConfig(LanguageConfig):
    """The fields of learners that cannot share a base: each trial has its own model (`training/standalone.py`)."""

    needs_base: ClassVar[bool] = True
    packs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.watch_updates:
            raise ValueError(
                "watch_updates is for learners that share a base (lora, soft_prompt, hybrid); leave it off"
            )


class SupervisedLearner:
    """A `LanguageLearner` with cross-entropy on the answer tokens of a task's training split."""

    temperature = 1.0

    def __init__(
        self, config: LanguageConfig, adapter: Adapter, optimizer: Optimizer, base: Any, task: Task, seed: int
    ) -> None:
        self.config, self.adapter, self.optimizer = config, adapter, optimizer
        self.rows_per_batch = config.rows_per_batch()
        self.steps_of_round = config.steps_of_round()
        self.steps_per_round = math.ceil(self.steps_of_round)  # of the first round
        self.watch_updates = config.watch_updates
        self.max_new_tokens = task.max_new_tokens
        self.seed = seed
        self._task, self._tokenizer = task, base.tokenizer
        self.examples = task.train()
        self._rows: dict[int, Row] = {}
        self._orders: dict[int, list[int]] = {}
        self._prompts: dict[Split, list[list[int]]] = {}
        self._position = 0  # training examples drawn so far
        self._draws = 0  # micro-batches so far

    def prepare(self) -> Queries:
        """Set `steps_per_round` of this round."""
        taken = self._draws // self.config.gradient_accumulation_steps
        rounds = taken // self.steps_of_round
        self.steps_per_round = math.ceil((rounds + 1) * self.steps_of_round) - taken
        yield from ()

    def prepare_step(self) -> Queries:
        yield from ()

    def next_rows(self) -> list[Row]:
        return [self.row(index) for index in self._next()]

    def _next(self) -> list[int]:
        """Return the indices of the training examples of the next micro-batch."""
        new = self.config.new_rows()
        chosen = [self._index(self._position + i) for i in range(new)]
        due = self.config.replay_ratio * new
        replayed = math.floor((self._draws + 1) * due) - math.floor(self._draws * due)
        if self._position:
            chooser = random.Random(f"replay {self.seed} {self._draws}")
            chosen += [self._index(chooser.randrange(self._position)) for _ in range(replayed)]
        self._position += new
        self._draws += 1
        return chosen

    def weight(self, rows: Sequence[Row]) -> float:
        return sum(sum(row.labels) for row in rows)

    def loss(self, logprobs: list[Any], rows: Sequence[Row]) -> Any:
        """Return the mean negative log-likelihood per label token of the micro-batch, in nats."""
        total = sum(row.sum() for row in logprobs)
        return -total / sum(len(row) for row in logprobs)

    def prompts(self, split: Split) -> list[list[int]]:
        if split not in self._prompts:
            examples = self._task.split(split)
            self._prompts[split] = [encode_prompt(self._tokenizer, example.prompt) for example in examples]
        return self._prompts[split]

    def evaluate(self, split: Split) -> Queries:
        completions = yield Complete(self.prompts(split), self.max_new_tokens)
        judged = self.judge(split, completions)
        if not self._task.ranks_by_likelihood:
            return judged
        read = yield Read([encode_row(self._tokenizer, example) for example in self._task.split(split)])
        likelihoods = [likelihood([-x for x in logprobs]) for logprobs in read]
        return ranked_by_likelihood(self._task, split, judged, likelihoods)

    def judge(self, split: Split, completions: Sequence[Completion]) -> Evaluation:
        """Score the completions of a split, given in its order; a truncated one scores 0, because an answer must end.

        Metrics: `score.<kind>`, the task's details, `truncated`, and `calibration_error` of the answers' probabilities
        (`calibration.py`).
        """
        examples = self._task.split(split)
        sums: dict[str, list[float]] = defaultdict(list)
        items, texts, confidences = [], [], []
        for example, completion in zip(examples, completions, strict=True):
            text = self._decode(completion.tokens)
            score = self._task.score(example, text) if completion.ended else 0.0
            items.append(score)
            texts.append(text)
            answer = self._task.parse_answer(text)
            confidences.append(confidence(completion, self._decode, answer and (answer.start, answer.end)))
            sums[f"score.{example.kind}"].append(score)
            sums["truncated"].append(float(not completion.ended))
            for name, value in self._task.details(example, text).items():
                sums[name].append(value)
        metrics: dict[str, Any] = {name: sum(values) / len(values) for name, values in sorted(sums.items())}
        metrics["calibration_error"] = calibration_error(confidences, items)
        return Evaluation(sum(items) / len(items), items, texts, metrics=metrics)

    def state(self) -> dict[str, Any]:
        return {"position": self._position, "draws": self._draws}

    def load(self, state: dict[str, Any]) -> None:
        self._position, self._draws = state["position"], state["draws"]

    def _decode(self, tokens: list[int]) -> str:
        return decode(self._tokenizer, tokens)

    def row(self, index: int) -> Row:
        if index not in self._rows:
            self._rows[index] = encode_row(self._tokenizer, self.examples[index])
        return self._rows[index]

    def _index(self, position: int) -> int:
        """Return the index of the example that is drawn at a position. It is a pure function, so replay and resumed
        runs need no stored order."""
        passes, offset = divmod(position, len(self.examples))
        if passes not in self._orders:
            order = list(range(len(self.examples)))
            random.Random(f"order {self.seed} {passes}").shuffle(order)
            if self.config.curriculum and passes == 0:
                order.sort(key=lambda i: self.examples[i].difficulty)
            self._orders[passes] = order
        return self._orders[passes][offset]
