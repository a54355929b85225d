"""What seats ask a host for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from trainables.core import LanguageLearner, Optimizer, Row
from trainables.packed.batching import size_of
from trainables.packed.decoding import Prompt


@dataclass(frozen=True)
class Train:
    """Run a micro-batch forward and backward. Answer: its loss, a float."""

    slot: int
    learner: LanguageLearner
    rows: Sequence[Row]
    seed: int
    step: int
    micro: int
    share: float  # of this loss in its step's

    @cached_property
    def size(self) -> tuple[int, int, bool]:
        """Of its lanes (`size_of`): requests of one size can share a batch."""
        return size_of(self.rows, self.learner.adapter.num_virtual_tokens)


@dataclass(frozen=True)
class Step:
    """Clip and step, unless a loss or the gradient is not finite. Answer: the norm before clipping."""

    slot: int
    finite: bool
    settings: Optimizer


@dataclass(frozen=True)
class Decode:
    """Complete prompts greedily. Answer: a `Completion` each."""

    prompts: Sequence[Prompt]


@dataclass(frozen=True)
class Measure:
    """Read rows, after so many virtual tokens. Answer: per row, the log-probabilities of its labels, as floats.

    What the slot of no seat answers is the base's own, and is kept: all seats may ask for the same.
    """

    slot: int
    rows: Sequence[Row]
    virtual: int


Request = Train | Step | Decode | Measure
