"""The parameters of a trial: one value, and the flat dictionary that files, tables and Optuna have of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.names import with_prefix, without_prefix

LEARNER = "learner"  # the axis that selects a trial's pair, in a sweep of several learners
START = "start_from"  # the entry of a clone's start


@dataclass(frozen=True)
class TrialParams:
    """A learner's name, its fields by their own names, and, for a clone, the state it starts from.

    `start` is a file below the sweep's folder. In a trial of Tune it is `trial.config["params"]`.
    """

    learner: str
    fields: Mapping[str, Any]
    start: str | None = None

    def flat(self, learners: Sequence[str]) -> dict[str, Any]:
        """Return the value of every axis, by the axes' names in a sweep of these learners.

        With several learners every field gets its learner as a prefix (`lora.r`), and the axis `learner` says which it
        is; a clone's start is the last entry, `start_from`.
        """
        axes = dict(self.fields)
        if len(learners) > 1:
            prefixed = {with_prefix(self.learner, name): value for name, value in axes.items()}
            axes = {LEARNER: self.learner} | prefixed
        return axes if self.start is None else axes | {START: self.start}

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any], only: str) -> TrialParams:
        """Undo `flat`. `only` is the learner of a sweep that has one, whose axes have no prefix."""
        learner = flat.get(LEARNER, only)
        own = {name: value for name, value in flat.items() if name not in (LEARNER, START)}
        fields = {without_prefix(learner, name): value for name, value in own.items()}
        return cls(learner, fields, flat.get(START))
