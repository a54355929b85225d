"""Rank by the likelihood of the right answers, where no rule can compare a completion with them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from trainables.core import Evaluation, Split, Task


def likelihood(nats: Sequence[float]) -> float:
    """Return exp(-mean) of an answer's negative log-probabilities: the geometric mean probability of its tokens."""
    return math.exp(-sum(nats) / len(nats))


def ranked_by_likelihood(task: Task, split: Split, judged: Evaluation, likelihoods: Sequence[float]) -> Evaluation:
    """Return an evaluation of completions with the likelihoods of the right answers as its score.

    It needs no rules, and does not penalise a good answer in other words. `similarity` is the score of the completions
    by the task.
    """
    by_kind: dict[str, list[float]] = defaultdict(list)
    for example, own in zip(task.split(split), likelihoods, strict=True):
        by_kind[f"score.{example.kind}"].append(own)
    near = [task.score(*own) for own in zip(task.split(split), judged.completions, strict=True)]
    metrics = {name: judged.metrics[name] for name in ("truncated", "unparsed")}
    metrics |= {name: sum(own) / len(own) for name, own in by_kind.items()}
    metrics["similarity"] = sum(near) / len(near)
    return Evaluation(sum(likelihoods) / len(likelihoods), likelihoods, judged.completions, metrics=metrics)
