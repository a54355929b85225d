"""The parameters of a trial: one value, and the flat dictionary that files, tables and Optuna have of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

from search_spaces.names import with_prefix, without_prefix
from trainables.core import ON_BASE

LEARNER = "learner"  # the axis that selects a trial's pair by its name, in a sweep of several pairs
START = "start_from"  # the entry of a clone's start


@dataclass(frozen=True)
class TrialParams:
    """A pair's name (`Pair.name`), its learner's fields by their own names, and, for a clone, the state it starts from.

    `start` is a file below the sweep's folder. In a trial of Tune it is `trial.config["params"]`.
    """

    pair: str
    fields: Mapping[str, Any]
    start: str | None = None

    @property
    def learner(self) -> str:
        return self.pair.partition(ON_BASE)[0]

    @property
    def base(self) -> str:
        """The label of the base; empty where the sweep has one."""
        return self.pair.partition(ON_BASE)[2]

    def flat(self, pairs: Sequence[str]) -> dict[str, Any]:
        """Return the value of every axis, by the axes' names in a sweep of these pairs.

        With several pairs every field gets its pair as a prefix (`lora.r`, `lora@tiny.r`), and the axis `learner` says
        which it is; a clone's start is the last entry, `start_from`.
        """
        axes = dict(self.fields)
        if len(pairs) > 1:
            prefixed = {with_prefix(self.pair, name): value for name, value in axes.items()}
            axes = {LEARNER: self.pair} | prefixed
        return axes if self.start is None else axes | {START: self.start}

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any], only: str) -> TrialParams:
        """Undo `flat`. `only` is the pair of a sweep that has one, whose axes have no prefix."""
        pair = flat.get(LEARNER, only)
        own = {name: value for name, value in flat.items() if name not in (LEARNER, START)}
        fields = {without_prefix(pair, name): value for name, value in own.items()}
        return cls(pair, fields, flat.get(START))


class Observation(NamedTuple):
    """A configuration that an earlier sweep tried, and its rank there: 1 for the best of its pair, 0 for the worst."""

    params: TrialParams
    rank: float


def in_turns(of_pairs: Iterable[Sequence[TrialParams]]) -> list[TrialParams]:
    """Return the configurations of several pairs in one list: the first of each pair, then the second of each."""
    return [one for turn in zip_longest(*of_pairs) for one in turn if one is not None]
