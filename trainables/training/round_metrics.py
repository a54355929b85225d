"""The metrics of a training round, for learners in a host and for learners with a model of their own."""

from __future__ import annotations

import math
import resource
from collections.abc import Sequence
from dataclasses import replace

import torch

from trainables.core import Evaluation, LanguageLearner, RoundResult, Row


def peak_memory_mib() -> float:
    """Return the peak memory of this process, on its device if it has one; all trials of a host share it."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux


def shares(learner: LanguageLearner, batches: Sequence[Sequence[Row]]) -> list[float]:
    """Return the weight of each micro-batch's loss in its step, so that accumulation equals one large batch.

    With equal weights, a token of a micro-batch of short answers would weigh more. They sum to 1; a single one is
    exactly 1. If none of the micro-batches has any weight, all count the same.
    """
    weights = [learner.weight(rows) for rows in batches]
    whole = sum(weights)
    return [weight / whole if whole else 1 / len(weights) for weight in weights]


class RoundMetrics:
    """Collects the losses and gradient norms of a round's optimizer steps."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._norms: list[float] = []
        self._tokens = 0

    def add(self, loss: float, norm: float, tokens: int) -> bool:
        """Add a step; return False if a number is not finite, which ends the round and makes its loss NaN."""
        self._losses.append(loss)
        self._norms.append(norm)
        self._tokens += tokens
        if math.isfinite(loss) and math.isfinite(norm):
            return True
        self._losses = [math.nan]
        return False

    def result(self, steps: int, trainable_parameters: int) -> RoundResult:
        """The mean loss, with the metrics of `Host.round`; `tokens`, the tokens trained on, is for `timed_round`."""
        metrics = {
            "grad_norm": sum(self._norms) / len(self._norms),
            "steps": steps,
            "tokens": self._tokens,
            "peak_memory_mib": peak_memory_mib(),
        }
        return RoundResult(sum(self._losses) / len(self._losses), trainable_parameters, metrics=metrics)


def timed_round(result: RoundResult, seconds: float) -> RoundResult:
    """Add `train_seconds`, and replace `tokens` by `tokens_per_second`."""
    metrics = {**result.metrics, "train_seconds": seconds}
    if "tokens" in metrics:
        metrics["tokens_per_second"] = metrics.pop("tokens") / max(seconds, 1e-9)
    return replace(result, metrics=metrics)


def timed_evaluation(evaluation: Evaluation, seconds: float) -> Evaluation:
    """Add `evaluation_seconds`."""
    return evaluation.with_metrics({"evaluation_seconds": seconds})
