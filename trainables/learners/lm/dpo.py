"""dpo: a LoRA adapter that prefers right completions to wrong ones (Rafailov et al. 2023; `preference_losses.py`).

A pair's chosen side is the rationale and its answer; its rejected side what the model that phase C starts from says
wrongly itself, or, where that is right, the same rationale with the other answer. A task that brings pairs is taken at
its word, and nothing else is learned.
Reference log-probabilities are read once, before the first step, and kept in the trial's state; a host reads them once
for all of its trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from trainables.core import Complete, Completion, Example, Queries, Read, Row, Split, Task
from trainables.learners.lm.cot import with_rationale
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.supervised import SupervisedLearner
from trainables.models.tokenization import encode_prompt, row_of
from trainables.options import option
from trainables.training.label_weights import LOST, label_factors

Loss = Literal["sigmoid", "cal_dpo"]
LOST_PAIRS = "no pair is of a question answered {label!r}, of {count}; add some to --task.pairs, or raise max_pairs"


@dataclass(frozen=True)
class DpoConfig(LoraConfig):
    name: ClassVar[str] = "dpo"
    only_task: ClassVar[str] = "strategyqa"

    learning_rate: float = option(
        1e-5, limit="learning_rate"
    )  # the seed's: pairs say where to go and not how far; at 3e-5 it soon says neither side
    beta: float = 0.1  # how strongly the reference holds, 1/nats
    beta_start: float = 0.05  # where the warm-up of beta begins, as in the seed
    beta_warmup_steps: int = 0  # optimizer steps from beta_start to beta; 0: beta at once
    loss_type: Loss = "sigmoid"  # DPO, or Cal-DPO
    label_smoothing: float = 0.0  # probability that a pair is the wrong way round (sigmoid alone)
    beta_prime: float = math.inf  # Dr. DPO's; infinity is the plain mean
    max_pairs: int = 512  # training questions that pairs are made of
    max_new_tokens: int = 64  # of a rationale and its answer; what is cut off scores nothing

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beta", "beta_start", "beta_prime"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; it is the share of swapped pairs, below 0.5")
        if self.label_smoothing and self.loss_type == "cal_dpo":
            raise ValueError("label_smoothing is not defined for cal_dpo; set it to 0, or loss_type to 'sigmoid'")
        if self.loss_type not in get_args(Loss):
            raise ValueError(f"loss_type is {self.loss_type!r}; use one of {', '.join(get_args(Loss))}")
        if self.beta_warmup_steps < 0:
            raise ValueError(f"beta_warmup_steps is {self.beta_warmup_steps}; it must be at least 0")
        if self.max_pairs < 1:
            raise ValueError(f"max_pairs is {self.max_pairs}; it must be at least 1")
        if self.watch_updates:
            raise ValueError(
                "watch_updates compares completions with gold ones, and half of a pair is wrong; leave it off"
            )

    def rows_per_batch(self) -> int:
        """Two rows for each pair of a micro-batch."""
        return 2 * super().rows_per_batch()

    def max_completion(self, task: Task) -> int:
        return self.max_new_tokens

    def rounds_per_pass(self, task: Task) -> int:
        """A pass over the pairs."""
        return self.rounds_for(len(paired(task, self.max_pairs)))

    def build(self, base: Any, task: Any, seed: int) -> DpoLearner:
        return DpoLearner(self, base, task, seed)


class Known(NamedTuple):
    """A training question's pair, and its log-probabilities (nats) under the reference: chosen, rejected."""

    chosen: str
    rejected: str
    reference: tuple[float, float]


class DpoLearner(SupervisedLearner):
    """Rows come as chosen, rejected, chosen, rejected ...

    `untouched`: the reference is the base itself; otherwise it is the adapter as it is before the first step.
    """

    def __init__(self, config: DpoConfig, base: Any, task: Any, seed: int, untouched: bool = True) -> None:
        super().__init__(config, config.adapter(), config.optimizer(), base, task, seed)
        self._dpo, self._untouched, self._asked = config, untouched, task
        self.max_new_tokens = config.max_new_tokens
        self._train = paired(task, config.max_pairs)
        lost = LOST_PAIRS if any(map(task.pair, self._train)) else LOST
        self._factors = label_factors(task.train(), self._train, [1.0] * len(self._train), lost)
        self._known: list[Known] = []
        self._places: dict[Row, int] = {}  # of a chosen row
        self._seen: dict[tuple[int, ...], dict[str, float]] = {}  # of a micro-batch: its loss may be asked for again

    def prepare(self) -> Queries:
        """Pairs and their reference, once."""
        if self._known:
            return
        pairs: list[tuple[str, str]] = [own for e in self._train if (own := self._asked.pair(e))]
        if not pairs:
            prompts = [encode_prompt(self._tokenizer, example.prompt) for example in self._train]
            said = yield Complete(prompts, self.max_new_tokens, self._untouched)
            pairs = [self._pair(*own) for own in zip(self._train, said, strict=True)]
        rows = [self._encoded(i, text) for i, pair in enumerate(pairs) for text in pair]
        sums = [sum(row) for row in (yield Read(rows, self._untouched))]
        references = zip(sums[0::2], sums[1::2], strict=True)
        self._keep([Known(*pair, reference) for pair, reference in zip(pairs, references, strict=True)])

    def next_rows(self) -> list[Row]:
        places = self._next()
        return [self._encoded(i, text) for i in places for text in (self._known[i].chosen, self._known[i].rejected)]

    def weight(self, rows: Sequence[Row]) -> float:
        return len(rows)  # a pair is a pair, whatever its length

    def loss(self, logprobs: list[Any], rows: Sequence[Row]) -> Any:
        """The mean over pairs, or Dr. DPO's, each pair times what repairs its label's share."""
        from trainables.learners.lm import preference_losses  # torch, which a trial's own process does without

        chosen, rejected = preference_losses.sums_of_pairs(logprobs)
        places = [self._places[row] for row in rows[0::2]]
        of_chosen, of_rejected = chosen.new_tensor([self._known[i].reference for i in places]).unbind(1)
        pairs = (chosen, rejected, of_chosen, of_rejected)
        config, step = self._dpo, (self._draws - 1) // self._dpo.gradient_accumulation_steps
        beta = preference_losses.beta_at(step, config.beta, config.beta_start, config.beta_warmup_steps)
        if config.loss_type == "cal_dpo":
            losses = preference_losses.cal_dpo(*pairs, beta)
        else:
            losses = preference_losses.dpo(*pairs, beta, config.label_smoothing)
        self._seen[self._draws, *places] = preference_losses.reward_metrics(*pairs, beta)
        weights = chosen.new_tensor([self._factors[self._train[i].answer] for i in places])
        return preference_losses.dr_dpo(losses, config.beta_prime, weights)

    def evaluate(self, split: Split) -> Queries:
        """Also the means of `rewards/...` and `logps/...` over the pairs trained on since the last evaluation."""
        evaluation = yield from super().evaluate(split)
        seen, self._seen = [*self._seen.values()], {}
        means = {name: sum(one[name] for one in seen) / len(seen) for name in (seen[0] if seen else ())}
        return evaluation.with_metrics(means)

    def state(self) -> dict[str, Any]:
        return super().state() | {"known": [tuple(own) for own in self._known]}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self._keep([Known(*own) for own in state["known"]])

    def _keep(self, known: list[Known]) -> None:
        self._known = known
        self._places = {self._encoded(i, own.chosen): i for i, own in enumerate(known)}

    def _pair(self, example: Example, said: Completion) -> tuple[str, str]:
        """The rationale against what was said wrongly, or against itself with the other answer."""
        chosen, text = self._asked.rationale_answer(example), self._decode(said.tokens)
        parsed = self._asked.said(text) if said.ended else None
        if parsed is not None and parsed.answer != example.answer:
            return chosen, text
        other = "No" if example.answer == "Yes" else "Yes"
        return chosen, self._asked.concluded(self._asked.rationale(example), other)

    def _encoded(self, place: int, text: str) -> Row:
        return row_of(self._tokenizer, self._train[place].prompt, text)


def paired(task: Any, most: int) -> Sequence[Example]:
    """The training questions that the task brings pairs for; where it brings none, those with a rationale."""
    return (tuple(example for example in task.train() if task.pair(example)) or with_rationale(task))[:most]
