"""cot: a LoRA adapter that learns to reason before it answers, from rationales beside the training questions.

Chain-of-thought distillation (Magister et al. 2022, arXiv 2212.08410), or STaR (Zelikman et al. 2022, arXiv 2203.14465)
where the rationales are the model's own. Where only some questions have one, as after filtering, rows are weighted so
that the labels weigh what they do among all training questions: the seed system learned from 71 % "No", and answered
nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from trainables.core import Example, Queries, Row, Split, Task
from trainables.learners.lm.cot_drafts import ablated
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.supervised import SupervisedLearner
from trainables.models.tokenization import row_of
from trainables.training.label_weights import label_factors


@dataclass(frozen=True)
class CotConfig(LoraConfig):
    name: ClassVar[str] = "cot"
    only_task: ClassVar[str] = "strategyqa"

    max_new_tokens: int = 64  # of a rationale and its answer; what is cut off scores nothing
    ablate_drafts: bool = False  # also report the score after no draft, and after another question's

    def max_completion(self, task: Task) -> int:
        return self.max_new_tokens

    def rounds_per_pass(self, task: Task) -> int:
        """A pass over the questions with a rationale."""
        return self.rounds_for(len(with_rationale(task)))

    def build(self, base: Any, task: Any, seed: int) -> CotLearner:
        """Raises ValueError where no training question has a rationale, or none of one label has."""
        return CotLearner(self, base, task, seed)


@dataclass(frozen=True)
class CotAnewConfig(CotConfig):
    """The same in a chain of sweeps, from the base that the chain began with: what the phase before taught may be in
    the way of reasoning."""

    name: ClassVar[str] = "cot_anew"


class CotLearner(SupervisedLearner):
    """Rows are the training questions that have a rationale; what is scored is the answer behind the model's own."""

    def __init__(self, config: CotConfig, base: Any, task: Any, seed: int) -> None:
        super().__init__(config, config.adapter(), config.optimizer(), base, task, seed)
        self.max_new_tokens, self._ablates, self._asked = config.max_new_tokens, config.ablate_drafts, task
        self._train = with_rationale(task)
        weights = [task.rationale_weight(example) for example in self._train]
        factors = label_factors(task.train(), self._train, weights)
        self._weights = {
            self._row(i): weight * factors[example.answer]
            for i, (example, weight) in enumerate(zip(self._train, weights, strict=True))
        }

    def loss(self, logprobs: list[Any], rows: Sequence[Row]) -> Any:
        """Mean negative log-likelihood per label token, in nats, each row times its weight."""
        total = sum(self._weights[row] * own.sum() for row, own in zip(rows, logprobs, strict=True))
        return -total / sum(len(own) for own in logprobs)

    def evaluate(self, split: Split) -> Queries:
        evaluation = yield from super().evaluate(split)
        if self._ablates:
            scores = yield from ablated(self._task, self._tokenizer, split, evaluation.completions)
            evaluation = evaluation.with_metrics(scores)
        return evaluation

    def _row(self, index: int) -> Row:
        if index not in self._rows:
            example = self._train[index]
            self._rows[index] = row_of(self._tokenizer, example.prompt, self._asked.rationale_answer(example))
        return self._rows[index]


def with_rationale(task: Any) -> Sequence[Example]:
    """The training questions that have a rationale. Raises ValueError where there are none."""
    kept = tuple(example for example in task.train() if task.rationale(example))
    if not kept:
        raise ValueError(
            f"none of {len(task.train())} training questions has a rationale; make some with `espalier rationales`, and"
            " name the file with --task.rationales"
        )
    return kept
