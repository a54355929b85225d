"""phases: one adapter through all three phases in one trial, so that they can be searched together.

A: supervised on the answers; B: on rationales and answers (`cot.py`); C: on preferences (`dpo.py`), whose reference is
the adapter as B leaves it. Moments of the optimizer go on from phase to phase.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from trainables.core import Queries, Row, Split, Task
from trainables.learners.lm.cot import CotConfig, CotLearner
from trainables.learners.lm.dpo import DpoConfig, DpoLearner, Loss
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.supervised import SupervisedLearner
from trainables.optimizer import Optimizer
from trainables.options import option


@dataclass(frozen=True)
class PhasesConfig(LoraConfig):
    name: ClassVar[str] = "phases"
    only_task: ClassVar[str] = "strategyqa"

    sft_rounds: int = 3  # of phase A; 0 leaves it out
    cot_rounds: int = 3  # of phase B; 0 leaves it out; whatever rounds come after are phase C
    cot_learning_rate: float = option(3e-3, limit="learning_rate")  # of phase B; learning_rate is phase A's
    dpo_learning_rate: float = option(1e-5, limit="learning_rate")  # of phase C
    beta: float = 0.1  # as for dpo
    beta_start: float = 0.05  # as for dpo
    beta_warmup_steps: int = 0  # as for dpo
    loss_type: Loss = "sigmoid"  # as for dpo
    label_smoothing: float = 0.0  # as for dpo
    beta_prime: float = math.inf  # as for dpo
    max_pairs: int = 512  # as for dpo
    max_new_tokens: int = 64  # as for cot and dpo

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sft_rounds", "cot_rounds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if self.lr_scheduler_type != "constant":
            raise ValueError(f"lr_scheduler_type is {self.lr_scheduler_type!r}; phases have their own rates: constant")
        self.cot()
        self.dpo()

    def cot(self) -> CotConfig:
        """Phase B's own configuration. Raises ValueError for what it refuses."""
        return self._of(CotConfig, self.cot_learning_rate)

    def dpo(self) -> DpoConfig:
        """Phase C's."""
        return self._of(DpoConfig, self.dpo_learning_rate)

    def rows_per_batch(self) -> int:
        """Of the phase with the most: two for each pair."""
        return self.dpo().rows_per_batch()

    def max_completion(self, task: Task) -> int:
        return self.max_new_tokens

    def rounds_per_pass(self, task: Task) -> int:
        """Phases A and B, and a pass of C: before that, trials may be in different phases."""
        return self.sft_rounds + self.cot_rounds + self.dpo().rounds_per_pass(task)

    def _of(self, kind: type[Any], learning_rate: float) -> Any:
        shared = {field.name: getattr(self, field.name) for field in fields(kind) if hasattr(self, field.name)}
        return kind(**shared | {"learning_rate": learning_rate})

    def build(self, base: Any, task: Any, seed: int) -> PhasesLearner:  # type: ignore[override]
        return PhasesLearner(self, base, task, seed)


class PhasesLearner:
    """A `LanguageLearner` that is one of three, by the rounds that are behind it."""

    watch_updates = False

    def __init__(self, config: PhasesConfig, base: Any, task: Task, seed: int) -> None:
        self.adapter, self.steps_per_round = config.adapter(), config.steps_per_round
        self._phases: list[SupervisedLearner] = [
            SupervisedLearner(config, self.adapter, config.optimizer(), base, task, seed),
            CotLearner(config.cot(), base, task, seed),
            DpoLearner(config.dpo(), base, task, seed, untouched=False),
        ]
        self._ends = (config.sft_rounds, config.sft_rounds + config.cot_rounds)
        self.rows_per_batch = config.rows_per_batch()
        self._rounds = 0  # begun

    @property
    def phase(self) -> int:
        """0, 1 or 2 in the round that has begun last; before the first, what that will be."""
        return sum(max(1, self._rounds) > end for end in self._ends)

    @property
    def optimizer(self) -> Optimizer:
        return self._now.optimizer

    @property
    def _now(self) -> SupervisedLearner:
        return self._phases[self.phase]

    def prepare(self) -> Queries:
        self._rounds += 1
        yield from self._now.prepare()

    def next_rows(self) -> list[Row]:
        return self._now.next_rows()

    def weight(self, rows: Sequence[Row]) -> float:
        return self._now.weight(rows)

    def loss(self, logprobs: list[Any], rows: Sequence[Row]) -> Any:
        return self._now.loss(logprobs, rows)

    def evaluate(self, split: Split) -> Queries:
        """In the format of the phase, and which it is."""
        evaluation = yield from self._now.evaluate(split)
        return evaluation.with_metrics({"phase": self.phase})

    def state(self) -> dict[str, Any]:
        return {"rounds": self._rounds, "phases": [phase.state() for phase in self._phases]}

    def load(self, state: dict[str, Any]) -> None:
        self._rounds = state["rounds"]
        for phase, own in zip(self._phases, state["phases"], strict=True):
            phase.load(own)
