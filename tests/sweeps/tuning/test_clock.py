"""The clock of --minutes, with time that passes as the test says."""

from __future__ import annotations

import pytest

from sweeps.tuning import clock
from sweeps.tuning.design import Design

OWN = Design(9, 18, 3, 9, 1, 100, 2, 2.0, 100, round_s=1.0, search_s=60.0, finalists_s=30.0, shown=0.1)


@pytest.fixture
def at(monkeypatch):
    now = {"s": 1000.0}
    monkeypatch.setattr(clock.time, "monotonic", lambda: now["s"])
    return lambda seconds: now.update(s=1000.0 + seconds)


def test_two_thirds_of_the_time_are_the_searchs_as_in_the_design(at):
    own = clock.Clock(OWN, 1000.0 + 100)
    assert own.left == pytest.approx(100 * (1 - clock.END) - clock.END_S)
    end = own.left * 2 / 3
    at(end - 0.1)
    assert not own.is_search_over
    at(end + 0.1)
    assert own.is_search_over
    at(101)
    assert own.left == 0


def test_the_pace_so_far_says_how_many_rounds_fit(at):
    """The design expects a round a second, and its pace counts as 15 seconds of measurement."""
    own = clock.Clock(OWN, 1000.0 + 100)
    search_s = own.left * 2 / 3
    assert own.rounds(0, 0) == pytest.approx(search_s), "before the first result the design's pace is all that is known"
    assert own.pace(0) is None
    at(10)
    own.rounds(2, 1)  # the first results
    at(30)
    assert own.rounds(12, 2) == pytest.approx(12 + (15 + 10 + 2) / (15 + 20) * (search_s - 30))
    assert own.pace(12) == pytest.approx(20 / 10)
    at(search_s)
    assert own.rounds(12, 2) == 12, "nothing more fits"


def test_a_resumed_search_measures_its_pace_anew(at):
    own = clock.Clock(OWN, 1000.0 + 100)
    own.rounds(50, 0)
    at(10)
    assert own.pace(55) == pytest.approx(2.0), "the 50 rounds of before took none of this time"
