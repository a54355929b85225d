"""Whether further trials may still find a better configuration, so that a search knows when to end.

Where many trials crowd below the best, hardly one will be much above it; where the best stands alone, others may
(`results/score_tail.py`). A gain counts if finalists could show it, and a crowd counts if it has learned something.

`benchmarks/search.py` shows how often a search with this rule ends too early.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeps.results.allocation import MOST_QUESTIONS
from sweeps.results.decision import FIRST_BUDGET
from sweeps.results.power import smallest_shown
from sweeps.results.records import TrialRecord, by_score, trivial_baselines
from sweeps.results.score_tail import chance_of_exceeding
from sweeps.results.search_comparison import against_trivial
from sweeps.spec.sweep import Sweep
from sweeps.tuning.sampler import estimates
from sweeps.tuning.standings import value_at

GUIDED = 3  # a further trial counts as so many of those before: the sampler draws it where good ones were


@dataclass(frozen=True)
class FurtherGain:
    """What a search could still gain. `difference`: the smallest one that finalists can show; `trivial`: the scores of
    strategies that need no training, by name; `pairs`: how many pairs share the trials equally."""

    difference: float
    trivial: Mapping[str, float]
    pairs: int = 1

    @classmethod
    def of_sweep(cls, sweep: Sweep, baselines: Mapping[str, float]) -> FurtherGain | None:
        """Return what counts as a gain in a sweep: what its finalists would show of two configurations, if each had
        their whole budget and all questions that the task can make. None if all trials have to start."""
        if sweep.all_trials or not sweep.finalists or len(sweep.objectives) > 1:
            return None
        task = sweep.pairs[0].task
        questions = len(task.test() if sweep.per_example else task.test_up_to(MOST_QUESTIONS))
        return cls(smallest_shown(2, FIRST_BUDGET, questions), trivial_baselines(baselines), len(sweep.pairs))

    def in_words(self, started: int, total: int, chance: float) -> str:
        """Say why the search ended."""
        points = f"{100 * self.difference:.0f} points"
        return (
            f"the search ended after {started} of {total} trials: one of the others would be"
            f" {points} better than the best with a chance of {100 * chance:.0f} %, and finalists cannot show less;"
            " --all-trials starts them all"
        )

    def chance(self, records: Sequence[TrialRecord], total: int) -> float:
        """Return the chance that the trials that have not started, of `total`, find a configuration that is better
        than the best by `difference`: 1 while nothing better than trivial strategies was shown, or too little is known.
        """
        if not (best := by_score(records)) or not against_trivial(best, self.trivial)[2]:
            return 1.0
        of_pairs = defaultdict[str, list[TrialRecord]](list)
        for record in records:
            of_pairs[record.pair] += [record] * (record.status != "failed")
        if len(of_pairs) < self.pairs:
            return 1.0
        scores = {pair: expected_scores(own) for pair, own in of_pairs.items()}
        level = max((max(own, default=0.0) for own in scores.values()), default=0.0) + self.difference
        none, share = 1.0, -(-total // self.pairs)
        for pair, own in of_pairs.items():
            tried = sum(one.rounds > 0 for one in own)
            none *= 1 - chance_of_exceeding(scores[pair], tried, level, GUIDED * max(0, share - len(own)))
        return 1 - none


def expected_scores(records: Sequence[TrialRecord]) -> list[float]:
    """Return what the trials of one pair are expected to score in their last round: the mean of the last few rounds,
    and what other trials gained from there. Trials that diverged, or have no round yet, have none."""
    known = [one for one in records if one.rounds and not one.history.diverged]
    scores = [{row["round"]: row["score"] for row in one.history if row.get("score") is not None} for one in known]
    left = estimates(scores)
    return [(value_at(one.history, one.rounds) or 0.0) + left.get(one.rounds, 0.0) for one in known]
