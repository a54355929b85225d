"""Two orders make one verdict, and a file of verdicts survives being torn."""

from __future__ import annotations

import math

import pytest

from sweeps.commands.judging.verdicts import Ruling, Verdict, append_verdicts, read_verdicts
from tests.support.judging_kit import verdict


@pytest.mark.parametrize(
    ("orders", "winner"),
    [
        ("AB", "first"),
        ("BA", "second"),
        ("==", "tie"),
        ("AA", "tie"),  # whoever stood first: says nothing
        ("BB", "tie"),
        ("A=", "tie"),  # a half-hearted win is a disagreement too
        ("=A", "tie"),
        ("B=", "tie"),
        ("A?", "unparsed"),
        ("?=", "unparsed"),
        ("??", "unparsed"),
        ("", "tie"),  # equal replies
    ],
)
def test_both_orders_must_name_the_same_reply(orders, winner):
    assert verdict(orders).winner == winner


def test_points_are_the_checkpoints_whichever_stands_first():
    won = verdict("first", first="x", second="y")
    assert (won.points("x"), won.points("y")) == (1, 0)
    assert verdict("tie").points("x") == verdict("tie").points("y") == 0.5
    assert math.isnan(verdict("unparsed").points("x")), "never a tie silently"
    with pytest.raises(KeyError, match="z was not judged"):
        won.points("z")


def test_scores_follow_the_reply_and_not_its_place():
    rulings = (Ruling("A", {"depth": (5, 2)}), Ruling("B", {"depth": (3, 4)}))
    assert Verdict("j", "1", "x", "y", "0", rulings).scores == {"depth": (4.5, 2.5)}
    assert Verdict("j", "1", "x", "y", "0", (rulings[0], Ruling("unparsed"))).scores == {}


def test_what_is_written_is_read(tmp_path):
    file = tmp_path / "deep" / "verdicts.jsonl"
    assert read_verdicts(file) == []
    full = Verdict("j", "ä", "x", "y", "0", (Ruling("A", {"depth": (5.0, 2.0)}, "wörds\nWinner: A"), Ruling("B")))
    append_verdicts(file, [full])
    append_verdicts(file, [verdict("unparsed"), verdict("")])
    assert read_verdicts(file) == [full, verdict("unparsed"), verdict("")]


def test_a_torn_last_line_is_dropped_and_nothing_before_it(tmp_path):
    file = tmp_path / "verdicts.jsonl"
    append_verdicts(file, [verdict("first", item) for item in range(3)])
    whole = file.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 20, whole.index(b"\n") + 2):
        file.write_bytes(whole[:cut])
        kept = read_verdicts(file)
        assert kept == [verdict("first", item) for item in range(whole[:cut].count(b"\n"))]
        append_verdicts(file, [verdict("tie", 9)])
        assert read_verdicts(file) == [*kept, verdict("tie", 9)]


@pytest.mark.parametrize("line", ["nonsense", "{}", "[1]", '{"winner": "tie", "rulings": [], "judge": "j"}'])
def test_a_line_that_is_no_verdict_is_named(tmp_path, line):
    file = tmp_path / "verdicts.jsonl"
    append_verdicts(file, [verdict("first")])
    with file.open("a") as out:
        out.write(line + "\n")
    with pytest.raises(ValueError, match=r"verdicts\.jsonl:2 is not a verdict"):
        read_verdicts(file)
