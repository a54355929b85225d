"""Compares the bases of a sweep by the best finalist of each, and its learners by their best on the best base.

The differences are those of finalists (`comparison.py`): paired by question, as all bases answer the same ones, with
the variance between seeds, and corrected for all finalists. So choosing the best of each base is paid for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sweeps.results.best_of_each import best_of_each
from sweeps.results.comparison import LEVEL
from sweeps.results.confirmation import Confirmation
from sweeps.results.leaderboard import percent, span
from sweeps.results.records import Final

HEAD = [
    "base",
    "best finalist",
    "test score",
    "95 % interval",
    "untouched",
    "gain, points",
    "minutes to train",
    "gain per minute",
    "parameters, million",
    "points per million parameters",
]


def in_words(known: Confirmation) -> list[str]:
    """Say how each base differs from the best one, and each learner from the best one on that base; empty in a sweep of
    one base."""
    best = best_of_each(known)
    lines = _differences(known, best.bases, "Bases, each by its best finalist", lambda one: one.base)
    if len(best.learners) > 1:
        what = f"Learners on {best.learners[0].base}, each by its best finalist"
        lines += _differences(known, best.learners, what, lambda one: one.learner)
    return lines


def _differences(known: Confirmation, best: Sequence[Final], what: str, name: Callable[[Final], str]) -> list[str]:
    """Return a sentence with the differences of the first from each of the others."""
    if len(best) < 2:
        return []
    first, names = best[0], {one.name: name(one) for one in best[1:]}
    told = []
    for one in known.comparisons(first.name):
        if one.second in names:
            apart = "is better than" if one.difference > 0 and one.p < LEVEL else "cannot be told apart from"
            told.append(f"{apart} {names[one.second]} ({one.in_points()}; p = {one.p:.2g})")
    return [f"{what}: {name(first)} {', and '.join(told)}"]


def table(known: Confirmation) -> list[list[str]]:
    """Return a row per base, the best first: see `HEAD`. Empty in a sweep of one base.

    The gain is over the untouched base, in points. `minutes to train` are those of one training of the finalist.
    """
    bounds, rows = known.bounds(), []
    for one in best_of_each(known).bases:
        before = known.untouched_of(one.base)
        gain = 100 * (one.score - before.score) if before else None
        seconds = known.spending.costs.train.get(one.name) if known.spending else None
        minutes = seconds / 60 if seconds else None
        millions = known.parameters.get(one.base, 0) / 1e6 or None
        rows.append(
            [
                one.base,
                one.name,
                percent(one.score),
                span(bounds[one.name]),
                percent(before.score if before else None),
                _shown(gain, "{:+.1f}"),
                _shown(minutes, "{:.2g}"),
                _shown(gain / minutes if gain is not None and minutes else None, "{:+.3g}"),
                _shown(millions, "{:,.3g}"),
                _shown(100 * one.score / millions if millions else None, "{:.3g}"),
            ]
        )
    return rows


def markdown(known: Confirmation) -> list[str]:
    """Write the table for `leaderboard.md`."""
    rows = table(known)
    if not rows:
        return []
    lines = ["## Bases, each by its best finalist", "", _line(HEAD), _line(["---", "---", *["---:"] * (len(HEAD) - 2)])]
    return [*lines, *map(_line, rows), ""]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
