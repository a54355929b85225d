"""grpo: a LoRA adapter that learns from the scores of its own samples (GRPO, Shao et al. 2024, arXiv 2402.03300, and
the variants in `training/grpo_loss.py`).

Trains the LoRA matrices; the base stays frozen, and is the reference. A *generation* is a number of groups: for each of
some training questions, `num_generations` completions that the present adapter samples. A completion's reward is its
score, and what makes it better than the others of its group becomes likelier. Each generation is trained on for
`steps_per_generation * num_iterations` optimizer steps; a round is a whole number of generations.

The draw of every token depends on the trial's seed, the generation, the group, the sample and the place alone. So
trials of one sweep, which have one seed, differ in what is searched and not in their luck.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, ClassVar

from trainables.core import (
    BaseLengths,
    Complete,
    Completion,
    Draw,
    Evaluation,
    Example,
    Queries,
    Read,
    Row,
    Split,
    Task,
)
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.supervised import SupervisedLearner
from trainables.models.tokenization import encode_prompt
from trainables.options import option
from trainables.training.grpo_loss import GrpoSettings


@dataclass(frozen=True)
class GrpoConfig(LoraConfig, GrpoSettings):
    """Rows are completions here. The optimizer's fields are LoRA's, the loss's those of `GrpoSettings`."""

    name: ClassVar[str] = "grpo"
    together: ClassVar[tuple[str, ...]] = (
        "num_generations",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "steps_per_generation",
    )

    learning_rate: float = option(2e-3, limit="learning_rate")  # below supervised rates: rewards are noisy
    r: int = option(4, limit="hidden_size", reserve=True, shapes_weights=True)  # a reward carries few bits
    lora_alpha: float = 8.0  # the update is scaled by lora_alpha / r
    per_device_train_batch_size: int = option(32, reserve=True)  # completions in a micro-batch
    gradient_accumulation_steps: int = 2  # with 32 completions: 8 groups of 8 in a step
    rows_per_round: int = 512  # completions sampled between two evaluations, at least; whole generations
    max_completion_length: int = option(0, reserve=True)  # tokens of a sampled completion; 0: the task's limit
    epsilon_high: float | None = 0.2  # ratios above 1 + epsilon_high are clipped; None: epsilon
    steps_per_generation: int = 1  # optimizer steps that share the completions of a generation
    format_weight: float = 0.0  # reward of a completion in which an answer can be read, right or wrong
    length_penalty: float = 0.0  # is taken from the reward of the longest completion, and in proportion from others

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings(max(1, self.max_completion_length))
        for name, least in (("max_completion_length", 0), ("steps_per_generation", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("format_weight", "length_penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a finite number >= 0")
        if self.rows_of_generation % self.num_generations:
            raise ValueError(
                f"num_generations is {self.num_generations} and a generation has {self.rows_of_generation} completions"
                " (per_device_train_batch_size * gradient_accumulation_steps * steps_per_generation); make it a"
                " multiple, so that groups are whole"
            )
        if self.steps_per_round % self.steps_of_generation:
            raise ValueError(
                f"steps_per_round is {self.steps_per_round} and a generation is trained on for"
                f" {self.steps_of_generation} steps (steps_per_generation * num_iterations); make it a multiple, or 0"
            )
        self._refuse_supervised()

    def _refuse_supervised(self) -> None:
        """Raise ValueError for what only has a meaning with given answers."""
        for name, plain in (("mode", "batched"), ("replay_ratio", 0), ("watch_updates", False)):
            if getattr(self, name) != plain:
                raise ValueError(f"{name} is {getattr(self, name)!r}; grpo has no given answers: leave it {plain!r}")
        if self.neftune_noise_alpha:
            raise ValueError(
                f"neftune_noise_alpha is {self.neftune_noise_alpha}; samples are drawn without noise, so leave it 0"
            )

    @property
    def rows_of_generation(self) -> int:
        """The completions of a generation."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.steps_per_generation

    @property
    def steps_of_generation(self) -> int:
        """The optimizer steps that are taken on a generation."""
        return self.steps_per_generation * self.num_iterations

    def steps_of_round(self) -> Fraction:
        """Return the optimizer steps of a round: of whole generations."""
        generations = math.ceil(self.rows_per_round / self.rows_of_generation)
        return Fraction(self.steps_per_round or max(1, generations) * self.steps_of_generation)

    def settings(self, max_completion_length: int) -> GrpoSettings:
        """Return the settings of the loss. Raise ValueError for values that cannot work."""
        shared = {field.name: getattr(self, field.name) for field in fields(GrpoSettings)}
        return GrpoSettings(**shared | {"max_completion_length": max_completion_length})

    def sampled_length(self, task: Task) -> int:
        """Return the longest sampled completion, in tokens."""
        return self.max_completion_length or task.max_new_tokens

    def check_task(self, task: Task, base: BaseLengths) -> None:
        """Raise ValueError for a likelihood as the score, or for completions that a base has no places for."""
        if task.ranks_by_likelihood:
            raise ValueError(
                f"the score of {task.name!r} is a likelihood, which no completion has; grpo learns from scores of"
                " completions: choose another --task.score, or another learner"
            )
        length = self.sampled_length(task)
        if any(base.is_too_long(replace(one, answer=""), length - 1) for one in task.train()):  # the end is counted
            raise ValueError(
                f"a question and {length} tokens pass the {base.limit:g} that the base reads; lower"
                " max_completion_length, or leave long questions out"
            )

    def build(self, base: Any, task: Any, seed: int) -> GrpoLearner:
        """Raise ValueError if a question of the training split and a sampled completion exceed the base's length."""
        return GrpoLearner(self, base, task, seed)


@dataclass(frozen=True)
class SampledRow(Row):
    """A prompt and its sampled completion, whose tokens are the labels.

    Its only branch begins with the prompt's last token, after which the completion is read. `left_out`: it has no
    gradient. `old` and `reference` are the labels' log-probabilities (nats) under the policy that sampled and under the
    untouched base; empty: not needed.
    """

    advantage: float = 0.0
    old: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()


class GrpoLearner(SupervisedLearner):
    """Samples a generation when the last one is used up; scores held-out questions as other learners do."""

    def __init__(self, config: GrpoConfig, base: Any, task: Task, seed: int) -> None:
        super().__init__(config, config.adapter(), config.optimizer(), base, task, seed)
        self._grpo, self._eos = config, base.eos
        self._length = config.sampled_length(task)
        self._settings, self.temperature = config.settings(self._length), config.temperature
        self._questions = [encode_prompt(base.tokenizer, example.prompt) for example in self.examples]
        base.check_tokens(self._questions, self._length)
        self._generation = 0  # generations so far
        self._sampled: list[SampledRow] = []
        self._taken = 0  # rows of the generation that were drawn, all iterations together
        self.figures: list[dict[str, float]] = []  # of each generation of this round

    def prepare(self) -> Queries:
        self._sampled, self._taken, self.figures = [], 0, []
        yield from ()

    def prepare_step(self) -> Queries:
        """Sample a generation if the last one is used up."""
        if self._sampled and self._taken < len(self._sampled) * self._grpo.num_iterations:
            return
        own = [self._index(self._position + i) for i in range(self._grpo.rows_of_generation // self._group)]
        samples = [(index, group, sample) for group, index in enumerate(own) for sample in range(self._group)]
        draws = [self._draw(group, sample) for _, group, sample in samples]
        prompts = [self._questions[index] for index, _, _ in samples]
        completions: list[Completion] = yield Complete(prompts, self._length, draws=draws)
        self._position += len(own)
        self._generation += 1
        self._taken = 0
        last = self._generation % (self.steps_per_round // self._grpo.steps_of_generation) == 0
        self._sampled = yield from self._rated([self.examples[i] for i, _, _ in samples], prompts, completions, last)

    def next_rows(self) -> list[Row]:
        """Return the next completions of the generation, which begins again when all have been drawn."""
        size, count = self._grpo.per_device_train_batch_size, len(self._sampled)
        rows = [self._sampled[(self._taken + i) % count] for i in range(size)]
        self._taken += size
        return [*rows]

    def weight(self, rows: Sequence[Row]) -> float:
        """Return the number of labels for DAPO, whose loss is a mean over tokens, otherwise of completions."""
        return super().weight(rows) if self._settings.loss_type == "dapo" else len(rows)

    def loss(self, logprobs: list[Any], rows: Sequence[Any]) -> Any:
        """Return the loss of a micro-batch; without `old`, the policy is the one that sampled.

        A completion that is left out counts as the others do, with the log-probabilities that it was sampled with.
        """
        import torch  # which a trial's own process does not need
        from torch.nn.utils.rnn import pad_sequence

        from trainables.training.grpo_loss import grpo_loss

        own = [
            one.new_tensor(row.old) if row.left_out and row.old else one
            for one, row in zip(logprobs, rows, strict=True)
        ]
        now = pad_sequence(own, batch_first=True)
        mask = pad_sequence([torch.ones_like(own) for own in logprobs], batch_first=True)

        def padded(values: list[tuple[float, ...]]) -> Any:
            return pad_sequence([now.new_tensor(own) for own in values], batch_first=True) if values[0] else None

        old, reference = padded([row.old for row in rows]), padded([row.reference for row in rows])
        advantages = now.new_tensor([row.advantage for row in rows])
        return grpo_loss(now, now.detach() if old is None else old, reference, advantages, mask, self._settings)

    def evaluate(self, split: Split) -> Queries:
        """Also return the means of `_rated`'s figures over the generations of the last round."""
        evaluation: Evaluation = yield from super().evaluate(split)
        names = dict.fromkeys(name for own in self.figures for name in own)
        means = {name: [own[name] for own in self.figures if name in own] for name in names}
        return evaluation.with_metrics({name: sum(own) / len(own) for name, own in means.items()})

    def state(self) -> dict[str, Any]:
        return super().state() | {"generation": self._generation}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self._generation = state["generation"]

    @property
    def _group(self) -> int:
        return self._grpo.num_generations

    def _draw(self, group: int, sample: int) -> Draw:
        place = f"grpo {self.seed} {self._generation} {group} {sample}"
        key = int.from_bytes(hashlib.blake2b(place.encode(), digest_size=8).digest(), "big")
        return Draw(key, self._grpo.temperature, self._grpo.top_p)

    def _rated(
        self,
        examples: Sequence[Example],
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Completion],
        measure_kl: bool,
    ) -> Queries:
        """Return the rows of a generation in the order of training, with what the loss needs, and keep its figures.

        Without beta the reference is read only for the figure `kl`, if `measure_kl`.
        """
        import torch

        from trainables.training.grpo_loss import advantages, reward_figures

        rows = [self._row(*own) for own in zip(prompts, completions, strict=True)]
        rewards = torch.tensor(
            [self._reward(*own) for own in zip(examples, completions, strict=True)], dtype=torch.float64
        ).view(-1, self._group)
        own = advantages(rewards, self._settings.scale_rewards).flatten().tolist()
        heat, several = self._grpo.temperature, self._grpo.steps_of_generation > 1
        old = (yield Read(rows, temperature=heat, once=True)) if several else [[]] * len(rows)
        reads = self._settings.beta or measure_kl
        reference = (yield Read(rows, untouched=True, temperature=heat, once=True)) if reads else [[]] * len(rows)
        self.figures.append(reward_figures(rewards) | self._sampling_figures(completions, reference))
        kept = reference if self._settings.beta else [[]] * len(rows)
        rated = [
            SampledRow(
                row.tokens,
                row.labels,
                branches=row.branches,
                left_out=not (advantage or self._settings.beta),
                advantage=advantage,
                old=tuple(before),
                reference=tuple(base),
            )
            for row, advantage, before, base in zip(rows, own, old, kept, strict=True)
        ]
        return self._in_order(rated)

    def _in_order(self, rows: Sequence[SampledRow]) -> list[SampledRow]:
        """Return the rows in the order in which they are trained on: groups in random order, and in each step those
        first that are read, so that they fill the fewest micro-batches."""
        groups = [rows[first : first + self._group] for first in range(0, len(rows), self._group)]
        random.Random(f"mixed {self.seed} {self._generation}").shuffle(groups)
        mixed, size = [row for own in groups for row in own], len(rows) // self._grpo.steps_per_generation
        steps = [mixed[first : first + size] for first in range(0, len(rows), size)]
        return [row for step in steps for row in sorted(step, key=lambda row: row.left_out)]

    def _row(self, prompt: Sequence[int], completion: Completion) -> Row:
        said = [*completion.tokens, *[self._eos] * completion.ended]
        labels = (False,) * len(prompt) + (True,) * len(said)
        return Row((*prompt, *said), labels, branches=(len(prompt) - 1,))

    def _reward(self, example: Example, completion: Completion) -> float:
        """Return the task's score, 0 for a truncated completion, plus the weighted format and minus the penalty."""
        text, config = self._decode(completion.tokens), self._grpo
        reward = self._task.score(example, text) if completion.ended else 0.0
        if config.format_weight and completion.ended:
            reward += config.format_weight * (1 - self._task.details(example, text).get("unparsed", 0.0))
        return reward - config.length_penalty * len(completion.logprobs) / self._length

    def _sampling_figures(
        self, completions: Sequence[Completion], reference: Sequence[Sequence[float]]
    ) -> dict[str, float]:
        """Return, under TRL's names, means over the sampled tokens and completions; `kl` only with a reference.

        `kl` is the estimate exp(d) - d - 1, d = reference - policy, in nats per token (Schulman 2020).
        """
        lengths = [len(own.logprobs) for own in completions]
        apart = [
            base - policy
            for own, read in zip(completions, reference, strict=True)
            for policy, base in zip(own.logprobs, read, strict=False)
        ]
        found = {
            "entropy": sum(sum(own.entropies) for own in completions) / sum(lengths),
            "completions/mean_length": sum(lengths) / len(lengths),
            "completions/clipped_ratio": sum(not own.ended for own in completions) / len(lengths),
        }
        kl = [math.exp(min(d, 700.0)) - d - 1 for d in apart]
        return found | ({"kl": sum(kl) / len(kl)} if kl else {})
