"""What a sweep searched: its axes with more than one value, by learner, and the trials that say something of them.

A learning rate of one learner says nothing of another's, so each learner's axes are judged by its own trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from search_spaces.axis import inside, same
from search_spaces.space import Space
from sweeps.results.records import UNRANKED, TrialRecord, by_score
from sweeps.results.run_folder import Run
from sweeps.results.trial_params import LEARNER

Axes = Mapping[str, BaseDistribution]


@dataclass(frozen=True)
class Group:
    """Axes that are judged together, a learner's or those of all trials, by their names without the learner's."""

    learner: str  # empty: all
    axes: Axes
    trials: Sequence[TrialRecord]  # with a score, the best first
    lost: Sequence[TrialRecord]  # diverged or failed
    values: Mapping[str, Mapping[str, Any]]  # trial id -> axis -> value, of the axes that were active in the trial


def groups(run: Run) -> list[Group]:
    """The searched axes by learner; empty without a space or trials with a score."""
    entry = run.facts.get("sweep", {}).get("space")
    if not entry:
        return []
    space = Space.from_dict(entry)
    searched = {name: one for name, one in space.axes.items() if not one.single()}
    # From the space: early on, some learners have no trial yet. A single learner is no axis, and its group is "".
    learners = getattr(space.axes.get(LEARNER), "choices", ())
    parts = {"": {name: one for name, one in searched.items() if name.split(".")[0] not in learners}}
    for learner in learners:
        own = space.branch(learner=learner).axes.items()
        parts[learner] = {name: one for name, one in own if not one.single()}
    found = []
    for learner, axes in parts.items():
        members = [one for one in run.records if learner in ("", one.learner)]
        trials, lost = by_score(members), [one for one in members if one.status in UNRANKED]
        values = {one.trial_id: _values(one, axes) for one in members}
        if axes and trials:
            found.append(Group(learner, axes, trials, lost, values))
    return found


def _values(one: TrialRecord, axes: Axes) -> dict[str, Any]:
    """A choice as the space has it (8 for 8.0); what is outside the space is left out."""
    known = {LEARNER: one.learner, **one.params.fields}
    found: dict[str, Any] = {}
    for axis, distribution in axes.items():
        given = known.get(axis, ...)
        if not inside(distribution, given):
            continue
        if isinstance(distribution, CategoricalDistribution):
            given = next(choice for choice in distribution.choices if same(choice, given))
        found[axis] = given
    return found
