"""phases: one LoRA adapter goes through three phases in one trial, so that a sweep can search all of them together.

Phase A is supervised training on the answers, phase B on rationales and answers (`cot.py`), phase C on preferences
(`dpo.py`), with the adapter at the end of phase B as the reference. The base stays frozen. The optimizer's moments
continue from phase to phase. Papers: see `cot.py` and `dpo.py`.
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

    sft_rounds: int = option(3, early_phase=True)  # rounds of phase A; 0 skips it
    cot_rounds: int = option(3, early_phase=True)  # rounds of phase B; 0 skips it; all later rounds are phase C
    cot_learning_rate: float = option(3e-3, limit="learning_rate")  # in phase B; learning_rate is phase A's
    dpo_learning_rate: float = option(1e-5, limit="learning_rate")  # in phase C
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
        """Return phase B's configuration. Raise ValueError for values that it refuses."""
        return self._of(CotConfig, self.cot_learning_rate)

    def dpo(self) -> DpoConfig:
        """Return phase C's configuration. Raise ValueError for values that it refuses."""
        return self._of(DpoConfig, self.dpo_learning_rate)

    def rows_per_batch(self) -> int:
        """Return the rows of phase C, the most of all phases: two for each pair."""
        return self.dpo().rows_per_batch()

    def max_completion(self, task: Task) -> int:
        return self.max_new_tokens

    def _of(self, kind: type[Any], learning_rate: float) -> Any:
        shared = {field.name: getattr(self, field.name) for field in fields(kind) if hasattr(self, field.name)}
        return kind(**shared | {"learning_rate": learning_rate})

    def build(self, base: Any, task: Any, seed: int) -> PhasesLearner:  # type: ignore[override]
        return PhasesLearner(self, base, task, seed)


class PhasesLearner:
    """A `LanguageLearner` that delegates to the learner of the present phase."""

    watch_updates, temperature = False, 1.0

    def __init__(self, config: PhasesConfig, base: Any, task: Task, seed: int) -> None:
        self.adapter = config.adapter()
        self._phases: list[SupervisedLearner] = [
            SupervisedLearner(config, self.adapter, config.optimizer(), base, task, seed),
            CotLearner(config.cot(), base, task, seed),
            DpoLearner(config.dpo(), base, task, seed, untouched=False),
        ]
        self._ends = (config.sft_rounds, config.sft_rounds + config.cot_rounds)
        self.rows_per_batch = config.rows_per_batch()
        self._rounds = 0  # rounds begun

    @property
    def phase(self) -> int:
        """The phase (0, 1 or 2) of the round that began last; before the first round, the phase of that round."""
        return sum(max(1, self._rounds) > end for end in self._ends)

    @property
    def optimizer(self) -> Optimizer:
        return self._now.optimizer

    @property
    def steps_per_round(self) -> int:
        return self._now.steps_per_round

    @property
    def _now(self) -> SupervisedLearner:
        return self._phases[self.phase]

    def prepare(self) -> Queries:
        self._rounds += 1
        yield from self._now.prepare()

    def prepare_step(self) -> Queries:
        yield from self._now.prepare_step()

    def next_rows(self) -> list[Row]:
        return self._now.next_rows()

    def weight(self, rows: Sequence[Row]) -> float:
        return self._now.weight(rows)

    def loss(self, logprobs: list[Any], rows: Sequence[Row]) -> Any:
        return self._now.loss(logprobs, rows)

    def evaluate(self, split: Split) -> Queries:
        """Return the evaluation of the present phase, with the metric `phase`."""
        evaluation = yield from self._now.evaluate(split)
        return evaluation.with_metrics({"phase": self.phase})

    def state(self) -> dict[str, Any]:
        return {"rounds": self._rounds, "phases": [phase.state() for phase in self._phases]}

    def load(self, state: dict[str, Any]) -> None:
        self._rounds = state["rounds"]
        for phase, own in zip(self._phases, state["phases"], strict=True):
            phase.load(own)
