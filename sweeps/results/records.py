"""The records of a sweep: a trial of the search, its row in the leaderboard, a candidate, and a finalist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from sweeps.results.statistics import Interval, interval, wilson
from sweeps.results.trial_history import TrialHistory, has_diverged
from sweeps.results.trial_params import TrialParams
from sweeps.results.uncertainty import clustered_interval, comparable_means
from trainables.core import ON_BASE, Pair

Status = Literal["finished", "pruned", "diverged", "failed", "interrupted", "running", "paused"]
UNRANKED = ("diverged", "failed")  # a diverged trial has no usable weights, a failed one may have none
UNTOUCHED = "untouched base"  # the name of the base among the finalists; with its label, if there are several bases
UNTRAINED = "untrained"  # and of a learner that has no base


def untouched_name(label: str) -> str:
    """Return the name of a base among the finalists. `label` is empty where the sweep has one base."""
    return f"{UNTOUCHED} {label}".strip()


def reference_name(pair: Pair) -> str:
    """Return the name of what a pair answers before training among the finalists; empty if it is not asked.

    It is the untouched base, which pairs share, or `untrained percell (lenses alone)`.
    """
    if pair.learner.needs_base:
        return untouched_name(pair.label) if pair.learner.base_answers else ""
    answering = pair.learner.untrained()
    return f"{UNTRAINED} {pair.name} ({answering})" if answering else ""


def untouched_baseline(label: str) -> str:
    """Return the name of a base's score before training among the baselines of the search."""
    return f"untouched {label}".strip()


def trivial_baselines(baselines: Mapping[str, float]) -> dict[str, float]:
    """Return the scores of trivial strategies on the whole split: no base's, and none of a single kind of question."""
    return {name: value for name, value in baselines.items() if "." not in name and not name.startswith("untouched")}


def is_untouched(name: str) -> bool:
    """Whether a name among the finalists is that of a base, or of a learner, before training."""
    return name == UNTOUCHED or name.startswith((f"{UNTOUCHED} ", f"{UNTRAINED} "))


@dataclass(frozen=True)
class TrialRecord:
    """One trial so far. `items` are the per-example scores of its best round, if known."""

    trial_id: str
    number: int
    params: TrialParams
    status: Status
    history: TrialHistory = field(default_factory=TrialHistory, repr=False)
    n_items: int = 0
    notes: tuple[str, ...] = ()
    items: tuple[float, ...] = field(default=(), repr=False)
    clusters: tuple[str, ...] = field(default=(), repr=False)  # the cluster of each item; empty: all are independent

    @property
    def pair(self) -> str:
        """The name of its pair: its learner's, and its base's where the sweep has several bases."""
        return self.params.pair

    @property
    def learner(self) -> str:
        return self.params.learner

    @property
    def rounds(self) -> int:
        """The number of completed rounds."""
        return self.history.rounds

    @property
    def score(self) -> float | None:
        """The score of the best round."""
        return self.history.score

    @property
    def last_score(self) -> float | None:
        return self.history.last_score

    @property
    def seconds(self) -> float:
        return self.history.seconds

    @property
    def independent(self) -> int:
        """The number of clusters, or of items where all are independent."""
        return len({*self.clusters}) or self.n_items

    def interval(self) -> Interval | None:
        """95 % interval of the score over its examples; None without examples or a score in [0, 1]."""
        if self.score is None or not 0 <= self.score <= 1 or self.n_items < 1:
            return None
        if self.items and self.clusters:
            return clustered_interval(self.items, self.clusters)
        return interval(self.items) if self.items else wilson(self.score * self.n_items, self.n_items)


@dataclass(frozen=True)
class LeaderboardRow:
    """A line of the leaderboard. `rank` is None for trials that cannot win; equal scores share a rank."""

    rank: int | None
    record: TrialRecord
    differs: str
    interval: Interval | None


@dataclass(frozen=True)
class Candidate:
    """A configuration to confirm: its trial, the rounds to train it for, and the score for which the search chose it,
    None for a default that the search did not choose."""

    trial_id: str
    name: str
    params: TrialParams
    rounds: int
    searched: float | None


@dataclass(frozen=True)
class Final:
    """A candidate's scores in [0, 1] on the test split, (seeds, items); what is not trained has one row.

    `pair` is the name of its pair, where the sweep has several bases. `before`: the name of what it was before its
    training, among the finalists; empty if that is not asked, None in runs of earlier versions.
    """

    name: str
    searched: float | None
    scores: np.ndarray
    trial_id: str | None = None  # of the search
    rounds: int | None = None  # of its training
    completions: tuple[Sequence[str], ...] = ()  # (seeds, items), where the learner generates text
    states: tuple[str, ...] = ()  # by seed, the checkpoint's folder below that of the sweep; empty if it is not kept
    pair: str = ""
    before: str | None = None

    @property
    def learner(self) -> str:
        """The learner's name, where the sweep has several bases."""
        return self.pair.partition(ON_BASE)[0]

    @property
    def base(self) -> str:
        """The label of its base, where the sweep has several."""
        known = self.name.startswith(UNTOUCHED)
        return self.name.removeprefix(UNTOUCHED).strip() if known else self.pair.partition(ON_BASE)[2]

    @property
    def is_untouched(self) -> bool:
        return is_untouched(self.name)

    @property
    def score(self) -> float:
        return float(self.scores.mean())


def how_ended(result: Mapping[str, Any], rounds: int, error: bool = False) -> Status:
    """Return how a trial ended, from its last result. Tune sets `done` on the result after which it stops a trial.

    Without `done`, Ctrl-C or a time budget cut the trial short.
    """
    if error:
        return "failed"
    if has_diverged(result):
        return "diverged"
    if result.get("training_iteration", 0) >= rounds:
        return "finished"
    return "pruned" if result.get("done") else "interrupted"


def can_win(record: TrialRecord) -> bool:
    return record.score is not None and record.status not in UNRANKED


def by_score(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trials that can win, the highest score of any round first; the earlier trial on a tie."""
    return sorted(filter(can_win, records), key=_place)


def _place(record: TrialRecord) -> tuple[float, int]:
    return -(record.score or 0.0), record.number


def ranked(finals: Sequence[Final]) -> list[Final]:
    """Finalists, the best first, by scores that are comparable whatever number of questions each was asked."""
    means = comparable_means({one.name: one.scores for one in finals}) if finals else {}
    return sorted(finals, key=lambda one: -means[one.name])


def winner(records: Sequence[TrialRecord], finals: Sequence[Final]) -> TrialRecord | None:
    """Return the best finalist's trial; without finalists the one with the best search score, which is luck in part."""
    known = {one.trial_id: one for one in records}
    confirmed = [known[one.trial_id] for one in ranked(finals) if one.trial_id in known]
    return confirmed[0] if confirmed else min(filter(can_win, records), key=_place, default=None)


def clusters_of(keys: Sequence[str]) -> list[str]:
    """The cluster of each item, which is its key; empty where no two items share a key."""
    return list(keys) if len(set(keys)) < len(keys) else []
