"""What training gained on each kind of question of the test split: the best finalist, before and after."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from sweeps.results.comparison import Comparison, compare
from sweeps.results.leaderboard import percent
from sweeps.results.records import clusters_of
from sweeps.results.run_folder import Run

HEAD = [
    "kind",
    "questions",
    "a constant answer",
    "before training",
    "best finalist",
    "gain, points",
    "95 % interval",
    "p",
]


class KindGain(NamedTuple):
    """The scores in [0, 1] on one kind, and how they compare; the p-value is corrected for all kinds (Holm 1979)."""

    kind: str
    questions: int
    untouched: float
    trained: float
    comparison: Comparison


def gains(run: Run) -> list[KindGain]:
    """Compare the best trained finalist with what it was before its training on each kind, paired by question, the
    largest gain first. Empty without such a pair, or if there is only one kind."""
    best, before = run.confirmation.best_trained, run.confirmation.untouched_of_best
    if best is None or before is None or run.questions.kind.nunique() < 2:
        return []
    asked = min(best.scores.shape[1], before.scores.shape[1])
    found = []
    for kind, own in run.questions[run.questions.item < asked].groupby("kind"):
        scores = {one.name: one.scores[:, own.item.to_numpy()] for one in (best, before)}
        clusters = clusters_of(own.key.tolist())
        (comparison,) = compare(scores, clusters, run.confirmation.without_seeds, reference=best.name)
        trained, untouched = (float(scores[one.name].mean()) for one in (best, before))
        found.append(KindGain(str(kind), len(own), untouched, trained, comparison))
    return sorted(_corrected(found), key=lambda one: -one.comparison.difference)


def _corrected(found: list[KindGain]) -> list[KindGain]:
    largest, corrected = 0.0, []
    for place, one in enumerate(sorted(found, key=lambda one: one.comparison.alone)):
        largest = max(largest, min(1.0, (len(found) - place) * one.comparison.alone))
        corrected.append(one._replace(comparison=replace(one.comparison, p=largest)))
    return corrected


def table(run: Run) -> list[list[str]]:
    """Return the rows of a table with `HEAD`. The constant answer's score is that on the search split."""
    constants = run.end.get("baselines", {})
    rows = []
    for one in gains(run):
        low, high = (f"{100 * end:.1f}" for end in one.comparison.interval)
        scores = (constants.get(f"constant.{one.kind}"), one.untouched, one.trained)
        difference = f"{100 * one.comparison.difference:+.1f}"
        cells = [*map(percent, scores), difference, f"{low} to {high}", f"{one.comparison.p:.2g}"]
        rows.append([one.kind, str(one.questions), *cells])
    return rows
