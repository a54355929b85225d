"""What a step, and a round, of training add up to, wherever they run."""

from __future__ import annotations

import math
import resource
from collections.abc import Sequence
from typing import Any, Literal

import torch

from trainables.core import LanguageLearner, Row


def peak_memory_mib() -> float:
    """The most that this process has taken so far, of the device if it has one; seats of a host share it."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux


def shares(learner: LanguageLearner, batches: Sequence[Sequence[Row]]) -> list[float]:
    """What each micro-batch's loss counts in that of its step, so that accumulation is one large batch.

    With equal shares, a micro-batch of short answers would weigh as much as one of long ones: more, per token. They add
    up to 1; a lone one is 1 exactly.
    """
    weights = [learner.weight(rows) for rows in batches]
    return [weight / sum(weights) for weight in weights]


class Tally:
    """Losses and norms of a round's optimizer steps."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._norms: list[float] = []
        self._tokens = 0

    def add(self, loss: float, norm: float, tokens: int) -> bool:
        """Whether to go on: a number that is not finite ends the round, and makes its loss NaN."""
        self._losses.append(loss)
        self._norms.append(norm)
        self._tokens += tokens
        if math.isfinite(loss) and math.isfinite(norm):
            return True
        self._losses = [math.nan]
        return False

    def metrics(self, steps: int, trainable_parameters: int) -> dict[str, Any]:
        """As `Host.round` gives them; `tokens`, that were trained on, for `timed`."""
        return {
            "loss": sum(self._losses) / len(self._losses),
            "grad_norm": sum(self._norms) / len(self._norms),
            "steps": steps,
            "trainable_parameters": trainable_parameters,
            "tokens": self._tokens,
            "peak_memory_mib": peak_memory_mib(),
        }


def timed(metrics: dict[str, Any], what: Literal["train", "evaluation"], seconds: float) -> None:
    """Add `train_seconds` or `evaluation_seconds`; `tokens` that were trained on become `tokens_per_second`."""
    metrics[f"{what}_seconds"] = seconds
    if "tokens" in metrics and what == "train":
        metrics["tokens_per_second"] = metrics.pop("tokens") / max(seconds, 1e-9)
