"""Which trials may go on from a rung, and which cannot: by hand, and as a plain reading of all trials has it."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping

import pytest

from sweeps.results.records import Status, TrialRecord
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.standings import Standings, value_at

RUNGS, FACTOR = [1, 3], 3


def history(*scores: float) -> TrialHistory:
    rows = ({"round": number, "score": score, "diverged": False} for number, score in enumerate(scores, 1))
    return TrialHistory(tuple(rows))


def standings(histories: Mapping[str, TrialHistory]) -> Standings:
    found = Standings(RUNGS, FACTOR)
    found.update(
        {
            name: TrialRecord(name, number, TrialParams("a", {}), "paused", own)
            for number, (name, own) in enumerate(histories.items())
        }
    )
    return found


def chosen(histories: Mapping[str, TrialHistory], rung: int, least: int = 0) -> list[str]:
    return standings(histories).chosen("a", rung, least)


def hopeless(histories: Mapping[str, TrialHistory], to_come: int, ended: Collection[str] = ()) -> set[str]:
    return standings(histories).hopeless("a", to_come, ended)


def test_the_last_three_rounds_decide() -> None:
    assert value_at(history(0.9, 0.1, 0.2, 0.3), 4) == pytest.approx(0.2)
    assert value_at(history(0.5, 0.3), 1) == 0.5
    assert value_at(history(0.5, 0.3), 2) == pytest.approx(0.4)
    assert value_at(history(0.5), 2) is None
    diverged = TrialHistory((*history(0.5, 0.9).rows, {"round": 3, "score": 0.0, "diverged": True}))
    assert value_at(diverged, 2) == pytest.approx(0.7)
    assert value_at(diverged, 4) == -math.inf


def test_a_third_goes_on_and_the_earlier_of_equals_first() -> None:
    histories = {
        name: history(score) for name, score in zip("abcdefg", (0.1, 0.5, 0.5, 0.2, 0.3, 0.5, 0.0), strict=True)
    }
    assert chosen(histories, 1) == ["b", "c"]
    two = {name: histories[name] for name in "ab"}
    assert chosen(two, 1) == []  # too few to say
    assert chosen(two, 1, least=1) == ["b"]
    assert chosen(histories | {"h": history(0.9, 0.9), "i": history()}, 1) == ["h", "b"]


def test_what_diverged_counts_as_tried_and_never_goes_on() -> None:
    bad = TrialHistory(({"round": 1, "score": 0.0, "diverged": True},))
    assert chosen({"a": history(0.1), "b": bad, "c": bad}, 1) == ["a"]
    assert chosen({"a": bad, "b": bad, "c": bad}, 1) == []


def test_a_trial_is_hopeless_once_no_later_ones_can_help_it() -> None:
    """By hand, a third goes on: of six trials two, so the third best of those here is out, whatever comes."""
    here = {name: history(score) for name, score in zip("abc", (0.5, 0.6, 0.4), strict=True)}
    assert hopeless(here, to_come=3) == {"c"}
    assert hopeless(here, to_come=6) == set(), "of nine trials three go on"
    assert hopeless(here, to_come=0) == {"a", "c"}
    assert hopeless(here | {"d": history()}, to_come=2) == {"c"}, "one that runs may still come"
    assert hopeless(here | {"d": history()}, to_come=2, ended="d") == {"a", "c", "d"}
    later = {"a": history(0.5, 0.5, 0.5), "b": history(0.6, 0.6, 0.7), "c": history(0.4)}
    assert hopeless(later, to_come=0) == {"a", "c"}
    assert hopeless(later, to_come=4) == {"c"}, "with four more at round 3 two of them would go on"
    assert hopeless({"a": history(0.1)}, to_come=0) == set(), "the best goes on"


def plain_order(histories: Mapping[str, TrialHistory], rung: int) -> list[tuple[str, float]]:
    """The trials that have reached a rung, the best first, from all histories anew."""
    values = [(name, value) for name, own in histories.items() if (value := value_at(own, rung)) is not None]
    return sorted(values, key=lambda one: -one[1])


def plain_chosen(histories: Mapping[str, TrialHistory], rung: int, least: int) -> list[str]:
    reached = plain_order(histories, rung)
    return [name for name, value in reached[: max(len(reached) // FACTOR, least)] if value > -math.inf]


def plain_hopeless(histories: Mapping[str, TrialHistory], to_come: int, ended: Collection[str]) -> set[str]:
    found = set(ended)
    for rung in RUNGS:
        reached = plain_order(histories, rung)
        below = sum(own.rounds < rung and name not in found for name, own in histories.items())
        most = max((len(reached) + below + to_come) // FACTOR, 1)
        found |= {name for name, _ in reached[most:] if histories[name].rounds == rung}
    return found


@pytest.mark.parametrize("seed", range(20))
def test_standings_that_are_kept_equal_those_from_all_trials(seed: int) -> None:
    """Trials of two pairs get rounds, diverge, fail, repeat rounds after a restart, or are stopped by hand."""
    draw = random.Random(seed)
    records: dict[str, TrialRecord] = {}
    stopped: set[str] = set()
    kept = Standings(RUNGS, FACTOR)
    for _ in range(150):
        if len(records) < 30 and draw.random() < 0.3:
            name, number = f"t{draw.random()}", len(records)
            records[name] = TrialRecord(name, number, TrialParams(draw.choice("ab"), {}), "running")
        if not records:
            continue
        one = records[draw.choice([*records])]
        round_ = draw.randint(1, one.rounds + 1) if draw.random() < 0.1 else one.rounds + 1
        row = {"round": round_, "score": draw.randint(0, 4) / 4, "diverged": draw.random() < 0.05}
        longer = one.history.with_round(row)
        status: Status = "failed" if draw.random() < 0.05 else "running"
        if draw.random() < 0.05:
            stopped.add(one.trial_id)

        def histories(pair: str) -> dict[str, TrialHistory]:
            counts = [own for own in records.values() if own.status != "failed" and own.trial_id not in stopped]
            return {own.trial_id: own.history for own in counts if own.pair == pair}

        def compare(pair: str, plain: Mapping[str, TrialHistory]) -> None:
            ended = {name for name in plain if draw.random() < 0.2}
            to_come, least = draw.randint(0, 9), draw.randint(0, 1)
            assert {*kept.trials(pair)} == {*plain}
            for rung in RUNGS:
                assert kept.chosen(pair, rung, least) == plain_chosen(plain, rung, least)
            assert kept.hopeless(pair, to_come, ended) == plain_hopeless(plain, to_come, ended)

        kept.update(records, stopped)
        compare("a", histories("a"))
        if one.trial_id in histories(one.pair):  # as the scheduler asks, before the recorder has the round
            kept.expect(one, longer)
            compare(one.pair, histories(one.pair) | {one.trial_id: longer})
        records[one.trial_id] = TrialRecord(one.trial_id, one.number, one.params, status, longer)
        kept.update(records, stopped)
        compare("a", histories("a"))
        compare("b", histories("b"))
