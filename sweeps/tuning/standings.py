"""Which trials may go on from each rung, and which cannot any more, as ASHA's paper has it (see `promotion.py`).

A sweep decides several times for each result. So the order of the trials at each rung is kept, and a result changes the
places of its own trial only.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from statistics import fmean

from sweeps.results.records import TrialRecord
from sweeps.results.rungs import MEAN_OF
from sweeps.results.trial_history import TrialHistory


def value_at(history: TrialHistory, rung: int) -> float | None:
    """Return the score that decides at a rung: the mean of the last `MEAN_OF` rounds up to it; minus infinity for a
    trial that diverged on the way; None for one that has not reached the rung."""
    if (diverged := history.diverged_in) is not None and diverged <= rung:
        return -math.inf
    if history.rounds < rung:
        return None
    scored = (row["score"] for row in reversed(history.rows) if row["round"] <= rung and row.get("score") is not None)
    scores = [*islice(scored, MEAN_OF)]
    return fmean(scores) if scores else None


class Standings:
    """The trials that have reached each of the `rungs`, by pair: the best first; of equal ones, the earlier.

    One in `reduction_factor` of the trials that reached a rung goes on. Trials have ids, and numbers that rise.
    """

    def __init__(self, rungs: Sequence[int], reduction_factor: int) -> None:
        self._rungs, self._factor = rungs, reduction_factor
        # By pair and rung, in rising order: minus the value, number and id of each trial.
        self._reached = defaultdict[tuple[str, int], list[tuple[float, int, str]]](list)
        self._histories = defaultdict[str, dict[str, TrialHistory]](dict)  # by pair and trial
        self._seen: dict[str, TrialRecord] = {}
        self._left_out: frozenset[str] = frozenset()

    def update(self, records: Mapping[str, TrialRecord], left_out: Collection[str] = ()) -> None:
        """Take in the records that have changed. Failed trials and those that are `left_out` do not count."""
        for trial_id in self._left_out.symmetric_difference(left_out):
            self._seen.pop(trial_id, None)
        self._left_out = frozenset(left_out)
        for trial_id, record in records.items():
            if self._seen.get(trial_id) is not record:
                self._seen[trial_id] = record
                counts = record.status != "failed" and trial_id not in self._left_out
                self._place(record, record.history if counts else None)

    def expect(self, record: TrialRecord, history: TrialHistory) -> None:
        """Take in a history that the record of a trial does not have yet; the next `update` goes by the record."""
        self._seen.pop(record.trial_id, None)
        self._place(record, history)

    def _place(self, record: TrialRecord, history: TrialHistory | None) -> None:
        known, trial_id = self._histories[record.pair], record.trial_id
        if (before := known.pop(trial_id, None)) is not None:
            for rung, place in self._entries(record, before):
                reached = self._reached[record.pair, rung]
                del reached[bisect_left(reached, place)]
        if history is not None:
            known[trial_id] = history
            for rung, place in self._entries(record, history):
                insort(self._reached[record.pair, rung], place)

    def _entries(self, record: TrialRecord, history: TrialHistory) -> Iterator[tuple[int, tuple[float, int, str]]]:
        for rung in self._rungs:
            if (value := value_at(history, rung)) is not None:
                yield rung, (-value, record.number, record.trial_id)

    def trials(self, pair: str) -> Collection[str]:
        """Return the ids of a pair's trials that count."""
        return self._histories[pair].keys()

    @property
    def keys(self) -> list[tuple[str, int]]:
        """The pairs and rungs that any trial has reached."""
        return [*self._reached]

    def chosen(self, pair: str, rung: int, least: int = 0) -> list[str]:
        """Return which trials of a pair may go on after a rung, the best first: one in `reduction_factor` of those that
        reached it, and at least `least`."""
        reached = self._reached[pair, rung]
        share = max(len(reached) // self._factor, least)
        return [trial_id for worse, _, trial_id in reached[:share] if worse < math.inf]

    def hopeless(self, pair: str, to_come: int, ended: Collection[str] = ()) -> set[str]:
        """Return which trials of a pair cannot go on any more, whatever the others reach, with those that have `ended`:
        too many were better at their rung already. `to_come` trials of the pair have not started."""
        histories, found = self._histories[pair], set(ended)
        for rung in self._rungs:
            reached = self._reached[pair, rung]
            below = sum(history.rounds < rung and name not in found for name, history in histories.items())
            most = max((len(reached) + below + to_come) // self._factor, 1)
            found |= {name for *_, name in reached[most:] if histories[name].rounds == rung}
        return found
