"""Whether further trials may still find a better configuration, so that a search knows when to end.

Where many trials crowd below the best, hardly one will be much above it; where the best stands alone, others may
(`results/score_tail.py`). A gain counts if finalists could show it, and a crowd counts if it has learned something.

`benchmarks/search.py` shows how often a search with this rule ends too early.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sweeps.results.decision import FIRST_BUDGET
from sweeps.results.power import smallest_shown
from sweeps.results.records import TrialRecord, by_score, trivial_baselines
from sweeps.results.score_tail import chance_of_exceeding
from sweeps.results.search_comparison import against_trivial
from sweeps.spec.sweep import Sweep
from sweeps.tuning.design import most_test_questions
from sweeps.tuning.progress import Progress
from sweeps.tuning.recorder import Recorder
from sweeps.tuning.sampler import estimates
from sweeps.tuning.standings import value_at

UNLIKELY = 0.05  # a chance below this is not worth further trials
GUIDED = 3  # a further trial counts as so many of those before: the sampler draws it where good ones were


@dataclass(frozen=True)
class FurtherGain:
    """What a search could still gain. `difference`: the smallest one that finalists can show; `trivial`: the scores of
    strategies that need no training, by name; `rounds`: of a trial that is not stopped; `pairs`: how many pairs share
    the trials equally."""

    difference: float
    trivial: Mapping[str, float]
    rounds: int
    pairs: int = 1

    @classmethod
    def of_sweep(cls, sweep: Sweep, baselines: Mapping[str, float]) -> FurtherGain | None:
        """Return what counts as a gain in a sweep: what its finalists would show of two configurations, if each had
        their whole budget and all questions that the task can make. None if all trials have to start."""
        if sweep.all_trials or not sweep.finalists or len(sweep.objectives) > 1 or sweep.scheduler != "asha":
            return None
        seeds = 1.0 if sweep.independent else FIRST_BUDGET
        difference = smallest_shown(2, seeds, most_test_questions(sweep))
        return cls(difference, trivial_baselines(baselines), sweep.rounds, len(sweep.pairs))

    def chance(self, records: Sequence[TrialRecord], total: int) -> float:
        """Return the chance that the trials that have not started, of `total`, find a configuration that is better
        than the best by `difference`: 1 while nothing better than trivial strategies was shown, or too little is known.
        """
        best = by_score(records)
        if not best or not best[0].independent or not against_trivial(best, self.trivial)[2]:
            return 1.0
        of_pairs = defaultdict[str, list[TrialRecord]](list)
        for record in records:
            of_pairs[record.pair].append(record)
        if len(of_pairs) < self.pairs or not all(map(self._has_finished, of_pairs.values())):
            return 1.0
        scores = {pair: expected_scores(own) for pair, own in of_pairs.items()}
        level = max(max(own, default=0.0) for own in scores.values()) + self.difference
        none, share = 1.0, -(-total // self.pairs)
        for pair, own in of_pairs.items():
            tried = sum(one.rounds > 0 and one.status != "failed" for one in own)
            none *= 1 - chance_of_exceeding(scores[pair], tried, level, GUIDED * max(0, share - len(own)))
        return 1 - none

    def _has_finished(self, records: Sequence[TrialRecord]) -> bool:
        """Whether a trial has had all rounds: before that nobody knows how far scores part in the end."""
        return any(one.rounds >= self.rounds for one in records)


class EndOfSearch:
    """Ends a search once nothing is left to gain. The recorder keeps why, so that a resumed search stays over.

    `is_waiting` returns whether somebody has queued a trial (`espalier clone`), which then starts first.
    """

    def __init__(
        self,
        gain: FurtherGain,
        total: int,
        recorder: Recorder,
        progress: Progress,
        is_waiting: Callable[[], bool],
    ) -> None:
        self._gain, self._total, self._recorder = gain, total, recorder
        self._progress, self._is_waiting = progress, is_waiting

    def is_due(self) -> bool:
        records = [*self._recorder.records.values()]
        if not self._recorder.why_over:
            chance = self._gain.chance(records, self._total)
            if chance >= UNLIKELY or self._is_waiting():
                return False
            self._recorder.why_over = self._in_words(len(records), chance)
        self._progress.expect(len(records))
        return True

    def _in_words(self, started: int, chance: float) -> str:
        points = f"{100 * self._gain.difference:.0f} points"
        return (
            f"the search ended after {started} of {self._total} trials: with a chance of {100 * chance:.0f} % one of"
            f" the others would have been {points} better than the best, which is the smallest difference that"
            " finalists can tell; --all-trials starts them all"
        )


def expected_scores(records: Sequence[TrialRecord]) -> list[float]:
    """Return what the trials of one pair are expected to score in their last round: the mean of the last few rounds,
    and what other trials gained from there. Trials that diverged, or have no round yet, have none."""
    known = [one for one in records if one.rounds and not one.history.diverged and one.status != "failed"]
    scores = [{row["round"]: row["score"] for row in one.history if row.get("score") is not None} for one in known]
    left = estimates(scores)
    return [min(1.0, (value_at(one.history, one.rounds) or 0.0) + left.get(one.rounds, 0.0)) for one in known]
