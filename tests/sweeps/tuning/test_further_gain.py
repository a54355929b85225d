"""A search ends by itself where more trials would hardly find anything better, and goes on where they may."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import genpareto

from sweeps.arena import SWEEP
from sweeps.results import score_tail
from sweeps.results.records import Status, TrialRecord
from sweeps.results.score_tail import chance_of_exceeding
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.further_gain import EndOfSearch, FurtherGain, expected_scores
from sweeps.tuning.promotion import Limits, PromotingASHA
from sweeps.tuning.recorder import Recorder

CROWDED = [0.72, 0.719, 0.717, 0.716, 0.712, 0.71, 0.707, 0.70, 0.69, 0.68, 0.65, 0.6, 0.5, 0.4, 0.3, 0.2]
ALONE = [0.72, 0.60, 0.55, 0.54, 0.53, 0.53, 0.52, 0.52, 0.51, 0.51, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]


def record(number: int, *scores: float, pair: str = "", status: Status = "paused") -> TrialRecord:
    rows = tuple({"round": place, "score": score, "diverged": False} for place, score in enumerate(scores, 1))
    return TrialRecord(str(number), number, TrialParams(pair, {}), status, TrialHistory(rows), n_items=250)


def records(scores: list[float], pair: str = "", first: int = 0) -> list[TrialRecord]:
    return [record(first + place, score, pair=pair) for place, score in enumerate(scores)]


def test_where_trials_crowd_below_the_best_a_much_better_one_is_unlikely() -> None:
    assert chance_of_exceeding(CROWDED, 16, 0.77, 40) < 0.05
    assert chance_of_exceeding(ALONE, 16, 0.77, 40) > 0.3
    assert chance_of_exceeding(CROWDED, 16, 0.725, 40) > 0.3, "one that is a little better may well come"


def test_the_chance_is_that_of_a_generalized_pareto_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one shape and one scale, and for one further trial: 40 % of the scores lie above the threshold."""
    monkeypatch.setattr(score_tail, "SHAPES", np.array([-0.5]))
    monkeypatch.setattr(score_tail, "SCALES", np.array([0.1]))
    scores = [0.5 - 0.01 * place for place in range(20)]
    above = genpareto.sf(0.55 - 0.42, -0.5, scale=0.1)
    assert chance_of_exceeding(scores, 20, 0.55, 1) == pytest.approx(8 / 20 * above)
    assert chance_of_exceeding(scores, 40, 0.55, 1) == pytest.approx(16 / 40 * genpareto.sf(0.21, -0.5, scale=0.1))
    assert chance_of_exceeding(scores, 20, 0.55, 3) == pytest.approx(1 - (1 - 8 / 20 * above) ** 3)


def test_too_few_trials_tell_nothing_and_none_to_come_find_nothing() -> None:
    assert chance_of_exceeding(CROWDED[:9], 9, 0.9, 40) == 1
    assert chance_of_exceeding(CROWDED[:5], 16, 0.9, 40) == 1, "the others diverged"
    assert chance_of_exceeding(ALONE, 16, 0.73, 0) == 0


def test_the_chance_holds_for_trials_that_are_alike() -> None:
    """Of 400 searches of 20 trials, so many as predicted find something 4 points better in 20 more."""
    rng, said, found = np.random.default_rng(0), [], []
    for _ in range(400):
        drawn = 0.6 + 0.12 * rng.beta(2, 2, 40)
        level = drawn[:20].max() + 0.01
        said.append(chance_of_exceeding(list(drawn[:20]), 20, level, 20))
        found.append(drawn[20:].max() > level)
    assert np.mean(said) == pytest.approx(np.mean(found), abs=0.1)


def test_a_trial_is_expected_to_gain_what_others_gained() -> None:
    """By hand: the second gained 0.1 and 0.2 after its first round, and the first, at 0.5, is expected to do the same;
    the third, at its last round, counts with the mean of its last three."""
    own = [record(0, 0.5), record(1, 0.4, 0.5, 0.7), record(2), record(3, 0.1, 0.2, 0.4)]
    assert expected_scores(own) == pytest.approx([0.5 + 0.1 + 0.2, (0.4 + 0.5 + 0.7) / 3, (0.1 + 0.2 + 0.4) / 3])


def test_while_nothing_was_learned_the_search_goes_on() -> None:
    """A crowd no better than a constant answer is no reason to end: what learns may be rare."""
    crowd = records(CROWDED)
    assert FurtherGain(0.05, {"chance": 0.2}, rounds=1).chance(crowd, 40) < 0.05
    assert FurtherGain(0.05, {"chance": 0.2, "constant": 0.68}, rounds=1).chance(crowd, 50) == 1
    assert FurtherGain(0.05, {"chance": 0.2}, rounds=1).chance([], 50) == 1
    without_items = [dataclasses.replace(one, n_items=0) for one in crowd]
    assert FurtherGain(0.05, {"chance": 0.2}, rounds=1).chance(without_items, 40) == 1, (
        "how sure the best is, is unknown"
    )


def test_a_pair_that_is_behind_holds_up_nothing_and_one_that_may_overtake_does() -> None:
    behind = records([score - 0.3 for score in CROWDED], "b", first=50)
    gain = FurtherGain(0.05, {"chance": 0.1}, rounds=1, pairs=2)
    assert gain.chance([*records(CROWDED, "a"), *behind], 60) < 0.05
    assert gain.chance([*records(CROWDED, "a"), *records(ALONE, "b", 50)], 60) > 0.3
    assert gain.chance(records(CROWDED, "a"), 60) == 1, "the other pair has no trial yet"
    failed = [dataclasses.replace(one, status="failed") for one in records([0.9] * 20, "b", 50)]
    assert gain.chance([*records(CROWDED, "a"), *failed], 60) == 1


def test_before_a_trial_had_all_rounds_nobody_knows_how_far_scores_part() -> None:
    crowd = records(CROWDED)
    gain = FurtherGain(0.05, {"chance": 0.2}, rounds=3)
    assert gain.chance(crowd, 40) == 1
    grown = [record(0, 0.7, 0.71, 0.72), *crowd[1:]]
    assert gain.chance(grown, 40) < 1


def test_nothing_is_better_than_all_right() -> None:
    best = [0.97, *(0.97 - 0.1 * place for place in range(1, 9)), 0.1, 0.1, 0.1]
    assert chance_of_exceeding(best, 12, 1.01, 52) == 0
    assert chance_of_exceeding(best, 12, 1.0, 52) > 0.05
    grown = [record(0, 0.1, 0.6), record(1, 0.7)]
    assert expected_scores(grown)[1] == 1, "not 1.2"


class Display:
    """What is told to the progress block."""

    expected = 0

    def expect(self, trials: int) -> None:
        self.expected = trials


def test_asha_starts_no_further_trial_then_and_a_resumed_one_neither(tmp_path: Path) -> None:
    gain, display, waiting = FurtherGain(0.05, {"chance": 0.2}, rounds=1), Display(), [True]
    recorder = Recorder(tmp_path, SWEEP, {})
    end = EndOfSearch(gain, 40, recorder, cast(Any, display), lambda: waiting[0])
    asha = PromotingASHA([1, 3, 9], 3, lambda: recorder.records, Limits(40, is_enough=end.is_due))
    assert asha.may_start() is True
    recorder.records |= {one.trial_id: one for one in records(CROWDED)}
    assert asha.may_start() is True, "a clone waits"
    waiting[0] = False
    assert asha.may_start() is False
    assert asha.ended_early
    assert display.expected == 16
    told = (
        "the search ended after 16 of 40 trials: with a chance of 4 % one of the others would have been 5 points better"
    )
    assert recorder.conclusions()[0].startswith(told)

    state = recorder.get_state()
    state["records"] |= {"0": record(0, 0.9)}  # a trial that was still under way got much better
    for every, over in ((False, True), (True, False)):
        again = Recorder(tmp_path, dataclasses.replace(SWEEP, all_trials=every), {})
        again.set_state(state)
        assert EndOfSearch(gain, 40, again, cast(Any, display), lambda: False).is_due() is over
        assert again.conclusions()[:1] == recorder.conclusions()[:1] * over


def test_a_sweep_of_all_trials_of_several_objectives_or_without_finalists_never_ends_by_itself() -> None:
    sweep = SWEEP
    gain = FurtherGain.of_sweep(sweep, {"chance": 0.1, "untouched": 0.9, "logic.constant": 0.5})
    assert gain is not None
    assert gain.trivial == {"chance": 0.1}
    for change in (
        {"all_trials": True},
        {"finalists": 0},
        {"objectives": ("score", "seconds")},
        {"scheduler": "stopping"},
    ):
        assert FurtherGain.of_sweep(dataclasses.replace(sweep, **change), {"chance": 0.1}) is None
