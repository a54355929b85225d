"""Compares the finalists of two sweeps of one task: paired by question where both were asked the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.results.comparison import LEVEL, compare, t_test
from sweeps.results.confirmation import Confirmation
from sweeps.results.records import Final, clusters_of
from sweeps.results.run_folder import Run
from sweeps.results.statistics import Interval
from sweeps.results.uncertainty import VarianceEstimate, combined_error, intervals, item_error, seed_errors

FEWEST = 20  # common questions, with fewer of which the sweeps are compared as if there were none


@dataclass(frozen=True)
class Difference:
    """The best finalist of one sweep minus that of another, on the same questions or (`common` 0) on different ones.

    `p` is two-sided, and corrected for the choice of both among `rows`: names, scores and 95 % intervals.
    """

    first: str
    second: str
    difference: float
    interval: Interval
    p: float
    common: int
    rows: Sequence[tuple[str, float, Interval]]
    left_out: Sequence[str] = ()  # finalists that were not asked all common questions

    @property
    def is_shown(self) -> bool:
        return self.p < LEVEL


def difference_of(runs: Sequence[Run]) -> Difference:
    """Compare two sweeps that have trained finalists. The first of the result is the better one."""
    asked = [_questions(run) for run in runs]
    known = [run.confirmation for run in runs]
    asked = [own[: _best(one).scores.shape[1]] for own, one in zip(asked, known, strict=True)]
    places = [{question: place for place, question in enumerate(own)} for own in asked]
    common = [question for question in places[0] if question in places[1]]
    if len(common) < FEWEST:
        return _unpaired(runs, known)
    chosen: dict[str, np.ndarray] = {}
    best, left_out, seedless = [], list[str](), list[str]()
    for run, own, where in zip(runs, known, places, strict=True):
        columns = [where[question] for question in common]
        names = {one.name: f"{run.folder.name}: {one.name}" for one in own.finals}
        for one in own.finals:
            if one.scores.shape[1] > max(columns):
                chosen[names[one.name]] = one.scores[:, columns]
            else:
                left_out.append(names[one.name])
        best.append(names[_best(own).name])
        seedless += [names[name] for name in own.without_seeds]
    clusters = clusters_of([key for key, *_ in common])
    best.sort(key=lambda name: -float(chosen[name].mean()))
    found = next(one for one in compare(chosen, clusters, seedless, best[0]) if one.second == best[1])
    bounds = intervals(chosen, clusters, seedless)
    rows = sorted(((name, float(own.mean()), bounds[name]) for name, own in chosen.items()), key=lambda row: -row[1])
    return Difference(best[0], best[1], found.difference, found.interval, found.p, len(common), rows, left_out)


def _unpaired(runs: Sequence[Run], known: Sequence[Confirmation]) -> Difference:
    """Compare the best of each by the errors of both means (Welch 1947), corrected for all pairs (Bonferroni)."""
    rows: list[tuple[str, float, Interval]] = []
    best: list[tuple[str, float, VarianceEstimate]] = []
    for run, own in zip(runs, known, strict=True):
        bounds, final = own.bounds(), _best(own)
        rows += [(f"{run.folder.name}: {one.name}", one.score, bounds[one.name]) for one in own.finals]
        seeds = seed_errors(own.scores, own.without_seeds)[final.name]
        items = item_error(final.scores.mean(0), own.clusters[: final.scores.shape[1]])
        best.append((f"{run.folder.name}: {final.name}", final.score, combined_error(items, [(final.scores, seeds)])))
    (first, high, one), (second, low, other) = sorted(best, key=lambda each: -each[1])
    variance = one.variance + other.variance
    weight = one.variance**2 / one.freedom + other.variance**2 / other.freedom
    error = VarianceEstimate(variance, variance**2 / weight if weight else 1e6)
    pairs = len(known[0].finals) * len(known[1].finals)
    p = min(1.0, pairs * t_test(high - low, error))
    return Difference(first, second, high - low, _reach(high - low, error), p, 0, sorted(rows, key=lambda row: -row[1]))


def _reach(difference: float, error: VarianceEstimate) -> Interval:
    from scipy.stats import t

    half = float(t.isf(LEVEL / 2, error.freedom)) * error.variance**0.5
    return max(-1.0, difference - half), min(1.0, difference + half)


def _best(known: Confirmation) -> Final:
    """Return the best trained finalist, or the best of what was not trained."""
    return known.best_trained or known.finals[0]


def _questions(run: Run) -> list[tuple[str, str, str]]:
    """Return the key, prompt and answer of each question of the test split, in order."""
    table = run.questions
    return list(zip(table.key, table.prompt, table.answer, strict=True))
