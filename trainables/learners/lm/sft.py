"""sft: a LoRA adapter that learns an assistant's style from conversations; the loss is on the assistant's turns only.

Instruction tuning as in InstructGPT's first step (Ouyang et al. 2022, arXiv 2203.02155), optionally with packed rows
(`training/packing_plan.py`) and noise on embeddings (`training/neftune.py`). Trains the LoRA matrices; the base stays
frozen. A round is a share of an epoch, whatever the batch size, so that trials are compared, and stopped, after equal
amounts of data. The score on another task, the arena, shows what the model forgets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

from trainables.core import Complete, Completion, Example, Queries, Read, Row, Split
from trainables.learners.lm.likelihood import likelihood, ranked_by_likelihood
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.supervised import SupervisedLearner
from trainables.models.tokenization import encode_dialogue
from trainables.optimizer import Optimizer
from trainables.tasks.arena.task import ArenaTask
from trainables.training.packing_plan import joined, pack, window_of


@dataclass(frozen=True)
class SftConfig(LoraConfig):
    name: ClassVar[str] = "sft"
    only_task: ClassVar[str] = "style"
    least_rows_per_round: ClassVar[int] = 0

    rows_per_round: int = 0  # rows between two evaluations, whatever the batch; 0: as rounds_per_epoch requires
    rounds_per_epoch: int = 2  # rounds in a pass over the data; their lengths may differ by one step
    warmup_ratio: float = 0.0  # linear warm-up, as a share of the schedule's steps, unless warmup_steps is set
    packing: bool = False  # several conversations in a row, up to max_length; a batch then holds more of them
    forgetting: bool = True  # also answer arena questions, which are not trained on, at every evaluation
    forgetting_size: int = 100  # arena questions

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds_per_epoch < 1:
            raise ValueError(f"rounds_per_epoch is {self.rounds_per_epoch}; it must be at least 1")
        if not 0 <= self.warmup_ratio < 1:
            raise ValueError(f"warmup_ratio is {self.warmup_ratio}; it is a share of all steps, in [0, 1)")
        if self.packing and self.curriculum:
            raise ValueError("curriculum sorts single conversations, and packing joins them; leave one of them off")
        if self.watch_updates:
            raise ValueError("watch_updates compares one answer per row, and a conversation has several; leave it off")
        if self.forgetting:
            self.forgetting_task()

    def forgetting_task(self) -> ArenaTask:
        """Return the task that measures forgetting. Raise ValueError for a size that it does not have."""
        return ArenaTask(search_size=self.forgetting_size, test_size=self.forgetting_size)

    def optimizer(self, prompt_learning_rate: float | None = None) -> Optimizer:
        """Raise ValueError for a warm-up that is a share of an unknown number of steps."""
        if self.warmup_ratio and not self.schedule_rounds:
            raise ValueError(
                f"warmup_ratio is {self.warmup_ratio} and schedule_rounds is 0, which a sweep sets; outside of a sweep,"
                " set schedule_rounds to the number of rounds"
            )
        return super().optimizer(prompt_learning_rate)

    @property
    def reports_forgetting(self) -> bool:
        return self.forgetting

    def build(self, base: Any, task: Any, seed: int) -> SftLearner:
        """Raise ValueError if no conversation is short enough."""
        return SftLearner(self, base, task, seed)


class TokenizedDialogue(NamedTuple):
    """A conversation as rows: one row, or, for some chat templates, one per reply."""

    rows: tuple[Row, ...]
    prompt: tuple[int, ...]  # all tokens before the last reply

    @classmethod
    def of(cls, tokenizer: Any, example: Example) -> TokenizedDialogue:
        rows = encode_dialogue(tokenizer, example.data.messages, example.data.tools)
        last = rows[-1]
        start = len(last.labels) - 1
        while last.labels[start - 1]:
            start -= 1
        return cls(rows, last.tokens[:start])

    def longest(self) -> int:
        return max(len(row.tokens) for row in self.rows)


class SftLearner(SupervisedLearner):
    """The score is the task's if the task has rules for the style, and otherwise the likelihood of the data's replies.

    The likelihood (`likelihood.py`) is the inverse of the conversation's perplexity.
    """

    def __init__(self, config: SftConfig, base: Any, task: Any, seed: int) -> None:
        super().__init__(config, config.adapter(), config.optimizer(), base, task, seed)
        self._style_task, self._forgetting = task, None
        if config.forgetting:
            other_task = config.forgetting_task()
            self._forgetting = SupervisedLearner(config, self.adapter, self.optimizer, base, other_task, seed)
        model_config = base.model.config.get_text_config()
        self._positions = getattr(model_config, "max_position_embeddings", math.inf)
        self._limit = min(task.max_length, self._positions, window_of(model_config) if config.packing else math.inf)
        self._dialogues: dict[Split, list[TokenizedDialogue]] = {}
        dialogues = [TokenizedDialogue.of(self._tokenizer, example) for example in self.examples]
        kept = [place for place, one in enumerate(dialogues) if one.longest() <= self._limit]
        self.left_out = len(dialogues) - len(kept)
        if not kept:
            raise ValueError(
                f"all {len(dialogues)} conversations to train on are longer than {self._limit} tokens; raise"
                f" --task.max-length ({task.max_length}) as far as the base allows, or shorten them"
            )
        rows = [(place, row) for place in kept for row in dialogues[place].rows]
        if config.packing:
            bins = pack([len(row.tokens) for _, row in rows], int(self._limit))
            rows = [(own[0], joined([rows[i][1] for i in own])) for own in bins]
        self.examples = [self.examples[place] for place, _ in rows]  # for a packed row, one of its conversations
        self._rows = dict(enumerate(row for _, row in rows))
        self._schedule(config)

    def _schedule(self, config: SftConfig) -> None:
        """Set the optimizer steps of a round and of the schedule: an epoch is exact for every batch size."""
        if not config.steps_per_round and not config.rows_per_round:
            share = Fraction(len(self.examples), config.rounds_per_epoch)
            self.steps_of_round = max(Fraction(1), config.steps_in(share))
            self.steps_per_round = math.ceil(self.steps_of_round)  # of the first round
        total = math.ceil(config.schedule_rounds * self.steps_of_round)
        warmup = config.warmup_steps or math.ceil(config.warmup_ratio * total)
        self.optimizer = replace(self.optimizer, total_steps=total, warmup_steps=warmup)

    def evaluate(self, split: Split) -> Queries:
        """Return more metrics beside the score.

        `nll` (nats per token of all replies) and `perplexity`; `too_long`, the share of conversations that the base
        cannot read, which score 0; `epoch`, passes over the training data so far; `rows_left_out`, training
        conversations that were too long; `forgetting_score` and `forgetting_lenient`, the strict and the lenient score
        on the arena, to compare with the untouched base's.
        """
        dialogues = self._encoded(split)
        short = [place for place, one in enumerate(dialogues) if self._fits(one)]
        completions = [Completion([], logprobs=[-math.inf])] * len(dialogues)
        answers = yield Complete([dialogues[place].prompt for place in short], self.max_new_tokens)
        read = yield Read([row for place in short for row in dialogues[place].rows])
        for place, answer in zip(short, answers, strict=True):
            completions[place] = answer
        evaluation = self.judge(split, completions)
        logprobs = iter(read)
        nats = {place: [-x for _ in dialogues[place].rows for x in next(logprobs)] for place in short}
        if self._style_task.ranks_by_likelihood:
            likelihoods = [likelihood(nats[i]) if i in nats else 0.0 for i in range(len(dialogues))]
            evaluation = ranked_by_likelihood(self._style_task, split, evaluation, likelihoods)
        count = sum(map(len, nats.values()))
        nll = sum(map(sum, nats.values())) / count if count else math.nan
        metrics = {"nll": nll, "perplexity": math.exp(min(nll, 700.0)), "too_long": 1 - len(short) / len(dialogues)}
        metrics |= {"epoch": self._position / len(self.examples), "rows_left_out": self.left_out}
        if self._forgetting:
            other = yield from self._forgetting.evaluate(split)
            metrics |= {"forgetting_score": other.score, "forgetting_lenient": other.metrics["lenient"]}
        return evaluation.with_metrics(metrics)

    def _encoded(self, split: Split) -> list[TokenizedDialogue]:
        if split not in self._dialogues:
            examples = self._style_task.split(split)
            self._dialogues[split] = [TokenizedDialogue.of(self._tokenizer, example) for example in examples]
        return self._dialogues[split]

    def _fits(self, one: TokenizedDialogue) -> bool:
        return one.longest() <= self._limit and len(one.prompt) + self.max_new_tokens <= self._positions
