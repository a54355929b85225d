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
from sweeps.results.leaderboard import UNRANKED, TrialRecord, by_score
from sweeps.results.run import Run


@dataclass(frozen=True)
class Group:
    """Axes that are judged together: a learner's, or those that all trials share. `axes`: short name -> distribution."""

    learner: str  # empty: all
    prefix: str
    axes: Mapping[str, BaseDistribution]
    trials: Sequence[TrialRecord]  # with a score, the best first
    lost: Sequence[TrialRecord]  # diverged or failed

    def value(self, one: TrialRecord, axis: str) -> Any:
        """What the trial had; None where the axis was not active, or the value is outside the space."""
        given, distribution = one.params.get(self.prefix + axis), self.axes[axis]
        if isinstance(distribution, CategoricalDistribution):
            return next((choice for choice in distribution.choices if same(choice, given)), None)
        return given if given is not None and inside(distribution, given) else None


def groups(run: Run) -> list[Group]:
    """The searched axes by learner; empty without a space or trials with a score."""
    entry = run.facts.get("sweep", {}).get("space")
    if not entry:
        return []
    searched = {name: one for name, one in Space.from_dict(entry).axes.items() if not one.single()}
    learners = dict.fromkeys(one.learner for one in run.records)
    found = []
    for learner in ["", *learners]:
        prefix = f"{learner}." if learner else ""
        own = [name for name in searched if (name.split(".")[0] if name.split(".")[0] in learners else "") == learner]
        members = [one for one in run.records if learner in ("", one.learner)]
        trials, lost = by_score(members), [one for one in members if one.status in UNRANKED]
        if own and trials:
            axes = {name.removeprefix(prefix): searched[name] for name in own}
            found.append(Group(learner, prefix, axes, trials, lost))
    return found
