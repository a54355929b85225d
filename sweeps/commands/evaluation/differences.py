"""Differences between two models on the questions of lm-eval's tasks, paired by question."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.results.comparison import paired
from sweeps.results.statistics import Interval, bootstrap_mean, win_interval

Question = tuple[str, int]  # a task, and the number of its question
Aggregate = Callable[[Sequence[Any]], float]
RESAMPLES = 1000
SLOW_RESAMPLES = 100  # of metrics of a whole corpus, which need a second each; lm-eval draws as many
SLOW = ("bleu", "chrf", "chrf++", "ter")


@dataclass(frozen=True)
class Difference:
    """A metric of a task for both models. `difference` is trained minus untouched, with its 95 % interval.

    `p` is two-sided; None for a metric that is no mean over questions. `interval` is None for a score of a group that
    is made in another way.
    """

    task: str
    metric: str
    untouched: float
    trained: float
    difference: float
    interval: Interval | None
    p: float | None
    n: int

    @property
    def is_share(self) -> bool:
        """Whether the metric is a mean of values in [0, 1], which is shown in percent."""
        is_mean = self.p is not None or self.interval is None
        return is_mean and 0 <= min(self.untouched, self.trained) <= max(self.untouched, self.trained) <= 1


def values_of(results: Mapping[str, Any], tasks: Sequence[str]) -> dict[tuple[str, str], dict[Question, Any]]:
    """Return each metric of these tasks, with the filter of its answers, and its value for each question.

    NaN is no value.
    """
    found: dict[tuple[str, str], dict[Question, Any]] = {}
    for task in tasks:
        for sample in results["samples"][task]:
            for metric in sample["metrics"]:
                if not (isinstance(sample[metric], float) and math.isnan(sample[metric])):
                    found.setdefault((metric, sample["filter"]), {})[task, sample["doc_id"]] = sample[metric]
    return found


def compare(
    task: str,
    metric: str,
    untouched: Mapping[Question, Any],
    trained: Mapping[Question, Any],
    aggregate: Aggregate | None,
) -> Difference:
    """Compare two models by a metric's values for each question. `aggregate` makes the metric of them; None: the mean.

    Questions of which only one model has a value are left out. Raise ValueError if none is left.
    """
    both = [question for question in untouched if question in trained]
    before, after = [untouched[one] for one in both], [trained[one] for one in both]
    if aggregate is None:
        values = float(np.mean(before)), float(np.mean(after))
        interval, p = difference_of_means(before, after)
        return Difference(task, metric, *values, values[1] - values[0], interval, p, len(both))
    values = float(aggregate(before)), float(aggregate(after))
    interval = bootstrap_difference(
        before, after, aggregate, SLOW_RESAMPLES if metric.split()[0] in SLOW else RESAMPLES
    )
    return Difference(task, metric, *values, values[1] - values[0], interval, None, len(both))


def difference_of_means(untouched: Sequence[float], trained: Sequence[float]) -> tuple[Interval, float]:
    """Return the 95 % interval of the mean difference (trained minus untouched) of paired questions, and its p-value.

    Right and wrong answers: Tango's score interval and McNemar's exact test; other values: bootstrap (BCa) and a
    randomisation test.
    """
    before, after = np.asarray(untouched, float), np.asarray(trained, float)
    p = paired(trained, untouched)
    if not np.isin(np.concatenate([before, after]), (0.0, 1.0)).all():
        return bootstrap_mean((after - before).tolist()), p
    low, high = win_interval(int((after > before).sum()), int((after < before).sum()), before.size)
    return (2 * low - 1, 2 * high - 1), p


def bootstrap_difference(
    untouched: Sequence[Any], trained: Sequence[Any], aggregate: Aggregate, resamples: int = RESAMPLES
) -> Interval:
    """Return the 95 % percentile interval of a difference of aggregates, such as perplexities, over other questions."""
    rng, count = np.random.default_rng(0), len(untouched)
    found = []
    for _ in range(resamples):
        drawn = rng.integers(count, size=count).tolist()
        found.append(aggregate([trained[i] for i in drawn]) - aggregate([untouched[i] for i in drawn]))
    low, high = np.nanquantile(found, (0.025, 0.975))
    return float(low), float(high)
