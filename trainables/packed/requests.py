"""The requests that the trials of a host yield. A host answers equal requests of many trials in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from trainables.core import LanguageLearner, Optimizer, Row
from trainables.packed.batching import BatchSize, Lane, batch_size_of
from trainables.packed.decoding import Prompt
from trainables.training.groups import Group
from trainables.training.hash_dropout import lane_key


@dataclass(frozen=True)
class TrainRequest:
    """Run a micro-batch forward and backward. The answer is its loss, a float."""

    slot: int
    learner: LanguageLearner
    rows: Sequence[Row]
    seed: int
    step: int
    micro: int
    share: float  # weight of this loss in the loss of the optimizer step
    groups: Sequence[Group] = ()  # which rows are read as one; none: each by itself

    def __post_init__(self) -> None:
        if not self.groups:
            object.__setattr__(self, "groups", [Group([i], row) for i, row in enumerate(self.rows)])

    @cached_property
    def size(self) -> BatchSize:
        """The size of its lanes (`batch_size_of`). Requests of one size can share a batch."""
        return batch_size_of([own.row for own in self.groups], self.learner.adapter.num_virtual_tokens)

    def lanes(self) -> list[Lane]:
        """Return the groups as lanes, each with its own key for dropout and noise."""
        adapter, noise = self.learner.adapter, self.learner.optimizer.neftune_noise_alpha
        place, is_random = (self.seed, self.step, self.micro), bool(adapter.lora_dropout or noise)
        keys = [lane_key(*place, i) if is_random else 0 for i in range(len(self.groups))]
        return [
            Lane(
                self.slot,
                own.row.tokens,
                adapter.num_virtual_tokens,
                adapter.lora_dropout,
                key,
                own.row.starts,
                own.row.branches,
                noise,
                self.learner.temperature,
            )
            for own, key in zip(self.groups, keys, strict=True)
        ]


@dataclass(frozen=True)
class StepRequest:
    """Clip the gradient and take an optimizer step, unless a loss or the gradient is not finite.

    The answer is the gradient norm before clipping.
    """

    slot: int
    finite: bool
    settings: Optimizer


@dataclass(frozen=True)
class DecodeRequest:
    """Complete prompts. The answer is one `Completion` for each prompt."""

    prompts: Sequence[Prompt]


@dataclass(frozen=True)
class LogprobRequest:
    """Compute the log-probabilities of each row's labels, behind `virtual` virtual tokens. The answer is floats.

    Answers of the empty slot are those of the untouched base. Those at temperature 1 are cached, as all trials may
    request the same, unless `once`. Logits are divided by `temperature`.
    """

    slot: int
    rows: Sequence[Row]
    virtual: int
    temperature: float = 1.0
    once: bool = False


Request = TrainRequest | StepRequest | DecodeRequest | LogprobRequest
