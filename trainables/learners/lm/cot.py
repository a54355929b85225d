"""cot: a LoRA adapter that learns to reason before it answers, from rationales beside the training questions.

Chain-of-thought distillation (Magister et al. 2022, arXiv 2212.08410), or STaR (Zelikman et al. 2022, arXiv 2203.14465)
where the rationales are the model's own. Trains the LoRA matrices; the base stays frozen. Often only some questions
have a rationale, as after filtering, and their labels are unbalanced: then a model may learn to give one answer to
everything. Rows are therefore weighted so that each label has the share that it has among all training questions.

`ablated` tests whether an answer depends on the draft before it. It scores the answers to the same questions after
other drafts: `own_draft`, the model's own (the control); `no_draft`; `shuffled_draft`, the draft of another question of
the split. The answer is not generated: the likelier of the two answers counts, and a tie is wrong (as in Lanham et al.
2023, arXiv 2307.13702). If `own_draft` scores no better than the others, the reasoning has no effect.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from trainables.core import Example, Queries, Read, Row, Split, Task
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.supervised import SupervisedLearner
from trainables.models.tokenization import row_of
from trainables.training.label_weights import label_factors

ANSWERS = ("Yes", "No")


@dataclass(frozen=True)
class CotConfig(LoraConfig):
    name: ClassVar[str] = "cot"
    only_task: ClassVar[str] = "strategyqa"

    max_new_tokens: int = 64  # of a rationale and its answer; a truncated completion scores 0
    ablate_drafts: bool = False  # also report the scores after no draft and after another question's draft

    def max_completion(self, task: Task) -> int:
        return self.max_new_tokens

    def build(self, base: Any, task: Any, seed: int) -> CotLearner:
        """Raise ValueError if no training question has a rationale, or none with one of the labels."""
        return CotLearner(self, base, task, seed)


@dataclass(frozen=True)
class CotFromBaseConfig(CotConfig):
    """`cot` in a chain of sweeps, but on the chain's first base, not on the result of the phase before.

    The phase before trained the model to answer at once, which may make reasoning harder to learn.
    """

    name: ClassVar[str] = "cot_anew"


class CotLearner(SupervisedLearner):
    """Trains on the questions that have a rationale; scores the answer after the model's own rationale."""

    def __init__(self, config: CotConfig, base: Any, task: Any, seed: int) -> None:
        super().__init__(config, config.adapter(), config.optimizer(), base, task, seed)
        self.max_new_tokens, self._ablates, self._rationales = config.max_new_tokens, config.ablate_drafts, task
        self.examples = with_rationale(task)
        weights = [task.rationale_weight(example) for example in self.examples]
        factors = label_factors(task.train(), self.examples, weights)
        self._weights = {
            self.row(i): weight * factors[example.answer]
            for i, (example, weight) in enumerate(zip(self.examples, weights, strict=True))
        }

    def loss(self, logprobs: list[Any], rows: Sequence[Row]) -> Any:
        """Return the mean negative log-likelihood per label token, in nats, each row times its weight."""
        total = sum(self._weights[row] * own.sum() for row, own in zip(rows, logprobs, strict=True))
        return -total / sum(len(own) for own in logprobs)

    def evaluate(self, split: Split) -> Queries:
        evaluation = yield from super().evaluate(split)
        if self._ablates:
            scores = yield from ablated(self._task, self._tokenizer, split, evaluation.completions)
            evaluation = evaluation.with_metrics(scores)
        return evaluation

    def row(self, index: int) -> Row:
        if index not in self._rows:
            example = self.examples[index]
            self._rows[index] = row_of(self._tokenizer, example.prompt, self._rationales.rationale_answer(example))
        return self._rows[index]


def with_rationale(task: Any) -> Sequence[Example]:
    """Return the training questions that have a rationale. Raise ValueError if there are none."""
    kept = tuple(example for example in task.train() if task.rationale(example))
    if not kept:
        raise ValueError(
            f"none of {len(task.train())} training questions has a rationale; make some with `espalier rationales`, and"
            " name the file with --task.rationales"
        )
    return kept


def ablated(task: Any, tokenizer: Any, split: Split, completions: Sequence[str]) -> Queries:
    """Return the scores in [0, 1] `score.own_draft`, `score.no_draft` and `score.shuffled_draft`."""
    examples = task.split(split)
    own = [task.draft(text) for text in completions]
    drafts = {"own_draft": own, "no_draft": [""] * len(own), "shuffled_draft": shuffled(own)}
    scores = {}
    for name, texts in drafts.items():
        rows = [
            answer_rows(tokenizer, example, [task.with_answer(text, answer) for answer in ANSWERS])
            for example, text in zip(examples, texts, strict=True)
        ]
        sums = [sum(row) for row in (yield Read([row for pair in rows for row in pair]))]
        right = [
            yes > no if example.answer == "Yes" else no > yes
            for example, yes, no in zip(examples, sums[0::2], sums[1::2], strict=True)
        ]
        scores[f"score.{name}"] = sum(right) / len(right)
    return scores


def answer_rows(tokenizer: Any, example: Example, completions: Sequence[str]) -> list[Row]:
    """Return a row for each completion of a prompt; the labels begin at the first token where the rows differ.

    Raises ValueError if all rows have the same tokens.
    """
    rows = [row_of(tokenizer, example.prompt, text) for text in completions]
    columns = enumerate(zip(*(row.tokens for row in rows), strict=False))
    if (first := next((i for i, tokens in columns if len(set(tokens)) > 1), None)) is None:
        raise ValueError(f"the base's tokens are the same for {' and '.join(map(repr, completions))}; use another base")
    return [Row(row.tokens, tuple(i >= first for i in range(len(row.tokens)))) for row in rows]


def shuffled(drafts: Sequence[str]) -> list[str]:
    """Give each draft to another question, by one random cycle through all of them; the cycle is always the same."""
    order = list(range(len(drafts)))
    random.Random("drafts").shuffle(order)
    moved = dict(zip(order, order[1:] + order[:1], strict=True))
    return [drafts[moved[i]] for i in range(len(drafts))]
