"""dpo: a LoRA adapter that learns to prefer right completions to wrong ones (DPO, Rafailov et al. 2023, arXiv
2305.18290, and its variants in `preference_losses.py`).

Trains the LoRA matrices; the base stays frozen. The chosen completion of a pair is the rationale and its answer. The
rejected one is the reference model's own completion if its answer is wrong, and otherwise the same rationale with the
other answer. If the task has a file of pairs, only those are used.

Reference log-probabilities are computed once, before the first step, and kept in the trial's state. A host computes
those of the untouched base once for all of its trials.
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
    )  # pairs give a direction but no distance: at 3e-5 both completions soon become unlikely
    beta: float = 0.1  # weight of the reference, 1/nats
    beta_start: float = 0.05  # first value of beta in its warm-up
    beta_warmup_steps: int = 0  # optimizer steps from beta_start to beta; 0: beta at once
    loss_type: Loss = "sigmoid"  # DPO, or Cal-DPO
    label_smoothing: float = 0.0  # probability that a pair is swapped (only for sigmoid)
    beta_prime: float = math.inf  # of Dr. DPO; infinity is the plain mean
    max_pairs: int = 512  # training questions from which pairs are made
    max_new_tokens: int = 64  # of a rationale and its answer; a truncated completion scores 0

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
        """Return the most rows of a micro-batch: two for each pair."""
        return 2 * super().rows_per_batch()

    def max_completion(self, task: Task) -> int:
        return self.max_new_tokens

    def build(self, base: Any, task: Any, seed: int) -> DpoLearner:
        return DpoLearner(self, base, task, seed)


class ReferencePair(NamedTuple):
    """A training question's pair, and the reference's log-probabilities (nats) of chosen and rejected."""

    chosen: str
    rejected: str
    reference: tuple[float, float]


class DpoLearner(SupervisedLearner):
    """Trains on rows in the order chosen, rejected, chosen, rejected, ...

    `untouched`: the reference is the base itself; otherwise it is the adapter before the first step.
    """

    def __init__(self, config: DpoConfig, base: Any, task: Any, seed: int, untouched: bool = True) -> None:
        super().__init__(config, config.adapter(), config.optimizer(), base, task, seed)
        self._dpo, self._untouched, self._pairs_task = config, untouched, task
        self.max_new_tokens = config.max_new_tokens
        self.examples = paired(task, config.max_pairs)
        lost = LOST_PAIRS if any(map(task.pair, self.examples)) else LOST
        self._factors = label_factors(task.train(), self.examples, [1.0] * len(self.examples), lost)
        self._known: list[ReferencePair] = []
        self._places: dict[Row, int] = {}  # index of the pair, by its chosen row
        self._rewards: dict[tuple[int, ...], dict[str, float]] = {}  # by micro-batch, whose loss may be computed twice

    def prepare(self) -> Queries:
        """Make the pairs and compute their reference log-probabilities, once."""
        yield from super().prepare()
        if self._known:
            return
        pairs: list[tuple[str, str]] = [own for e in self.examples if (own := self._pairs_task.pair(e))]
        if not pairs:
            prompts = [encode_prompt(self._tokenizer, example.prompt) for example in self.examples]
            completions = yield Complete(prompts, self.max_new_tokens, self._untouched)
            pairs = [self._pair(*own) for own in zip(self.examples, completions, strict=True)]
        rows = [self._encoded(i, text) for i, pair in enumerate(pairs) for text in pair]
        sums = [sum(row) for row in (yield Read(rows, self._untouched))]
        references = zip(sums[0::2], sums[1::2], strict=True)
        self._keep([ReferencePair(*pair, reference) for pair, reference in zip(pairs, references, strict=True)])

    def next_rows(self) -> list[Row]:
        places = self._next()
        return [self._encoded(i, text) for i in places for text in (self._known[i].chosen, self._known[i].rejected)]

    def weight(self, rows: Sequence[Row]) -> float:
        return len(rows)  # pairs count equally, whatever their lengths

    def loss(self, logprobs: list[Any], rows: Sequence[Row]) -> Any:
        """Return the mean loss over pairs, or Dr. DPO's, each pair times the weight that restores its label's share."""
        from trainables.learners.lm import preference_losses  # imports torch, which a trial's own process does not need

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
        self._rewards[self._draws, *places] = preference_losses.reward_metrics(*pairs, beta)
        weights = chosen.new_tensor([self._factors[self.examples[i].answer] for i in places])
        return preference_losses.dr_dpo(losses, config.beta_prime, weights)

    def evaluate(self, split: Split) -> Queries:
        """Also return the means of `rewards/...` and `logps/...` over the pairs trained on since the last
        evaluation."""
        evaluation = yield from super().evaluate(split)
        rewards, self._rewards = [*self._rewards.values()], {}
        names = rewards[0] if rewards else ()
        return evaluation.with_metrics({name: sum(one[name] for one in rewards) / len(rewards) for name in names})

    def state(self) -> dict[str, Any]:
        return super().state() | {"known": [tuple(own) for own in self._known]}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self._keep([ReferencePair(*own) for own in state["known"]])

    def _keep(self, known: list[ReferencePair]) -> None:
        self._known = known
        self._places = {self._encoded(i, own.chosen): i for i, own in enumerate(known)}

    def _pair(self, example: Example, completion: Completion) -> tuple[str, str]:
        """Return the rationale as chosen; as rejected the wrong completion, or the rationale with the other answer."""
        chosen, text = self._pairs_task.rationale_answer(example), self._decode(completion.tokens)
        parsed = self._pairs_task.parse_answer(text) if completion.ended else None
        if parsed is not None and parsed.answer != example.answer:
            return chosen, text
        other = "No" if example.answer == "Yes" else "Yes"
        return chosen, self._pairs_task.with_answer(self._pairs_task.rationale(example), other)

    def _encoded(self, place: int, text: str) -> Row:
        return row_of(self._tokenizer, self.examples[place].prompt, text)


def paired(task: Any, most: int) -> Sequence[Example]:
    """Return the training questions that have a pair; if none has, those with a rationale."""
    return (tuple(example for example in task.train() if task.pair(example)) or with_rationale(task))[:most]
