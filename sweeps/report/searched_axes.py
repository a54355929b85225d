"""The axes that a sweep searched (those with more than one value), by pair, with the trials of that pair.

The learning rates of two learners cannot be compared, so each pair's axes are shown with its own trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from search_spaces.axis import inside, same
from search_spaces.space import Space
from sweeps.results.records import UNRANKED, TrialRecord, by_score, winner
from sweeps.results.run_folder import SWEEP_FILE, Run
from sweeps.results.run_schema import reading
from sweeps.results.trial_params import LEARNER

Axes = Mapping[str, BaseDistribution]


@dataclass(frozen=True)
class AxisGroup:
    """The axes of one pair, or of all trials. Names of axes are without the pair's prefix."""

    pair: str  # empty for all trials
    axes: Axes
    trials: Sequence[TrialRecord]  # with a score, the best first
    lost: Sequence[TrialRecord]  # diverged or failed
    values: Mapping[str, Mapping[str, Any]]  # trial id -> axis -> value, of the axes that were active in the trial


def axis_groups(run: Run) -> list[AxisGroup]:
    """Return the searched axes by pair, the winner's first; empty without a space or without scores."""
    entry = run.facts.get("sweep", {}).get("space")
    if not entry:
        return []
    with reading(run.folder / SWEEP_FILE):
        space = Space.from_dict(entry)
    parts = {"": space}  # a single pair is not an axis
    if LEARNER in space.axes:
        # Read from the space, because a pair may have no trial yet.
        pairs = getattr(space.axes[LEARNER], "choices", ())
        parts = {"": Space({LEARNER: space.axes[LEARNER]})} | {name: space.branch(learner=name) for name in pairs}
    found = []
    for pair, part in parts.items():
        axes = {name: one for name, one in part.axes.items() if not one.single()}
        members = [one for one in run.records if pair in ("", one.pair)]
        trials, lost = by_score(members), [one for one in members if one.status in UNRANKED]
        values = {one.trial_id: _axis_values(one, axes) for one in members}
        if axes and trials:
            found.append(AxisGroup(pair, axes, trials, lost, values))
    best = winner(run.records, run.finals)
    return sorted(found, key=lambda group: group.pair not in ("", best and best.pair))


def _axis_values(one: TrialRecord, axes: Axes) -> dict[str, Any]:
    """Return axis -> value. A choice is as in the space (8, not 8.0); values outside the space are left out."""
    known = {LEARNER: one.pair, **one.params.fields}
    found: dict[str, Any] = {}
    for axis, distribution in axes.items():
        given = known.get(axis, ...)
        if not inside(distribution, given):
            continue
        if isinstance(distribution, CategoricalDistribution):
            given = next(choice for choice in distribution.choices if same(choice, given))
        found[axis] = given
    return found
