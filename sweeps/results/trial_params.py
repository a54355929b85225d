"""The parameters of a trial, and their encoding as axes: the flat names that Optuna, Tune and tables use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.core import START

LEARNER = "learner"  # the axis that selects a trial's pair, in a sweep of several learners


@dataclass(frozen=True)
class TrialParams:
    """A learner's name, its fields by their own names, and, for a clone, the state it starts from.

    `start` is a file below the sweep's folder.
    """

    learner: str
    fields: Mapping[str, Any]
    start: str | None = None


def to_axes(params: TrialParams, learners: Sequence[str]) -> dict[str, Any]:
    """Encode parameters under the names of axes, in a sweep of these learners.

    With several learners every field gets its learner as a prefix (`lora.r`), and the axis `learner` says which it is;
    a clone's start is the last entry, `start_from`.
    """
    axes = dict(params.fields)
    if len(learners) > 1:
        axes = {LEARNER: params.learner} | {f"{params.learner}.{name}": value for name, value in axes.items()}
    return axes if params.start is None else axes | {START: params.start}


def from_axes(axes: Mapping[str, Any], only: str) -> TrialParams:
    """Decode `to_axes`. `only` is the learner of a sweep that has one, whose axes have no prefix."""
    learner = axes.get(LEARNER, only)
    prefix = f"{learner}." if LEARNER in axes else ""
    fields = {
        name.removeprefix(prefix): value
        for name, value in axes.items()
        if name.startswith(prefix) and name not in (LEARNER, START)
    }
    return TrialParams(learner, fields, axes.get(START))
