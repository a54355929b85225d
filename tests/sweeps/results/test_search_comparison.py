"""Trials that cannot be distinguished from the best of a search: by hand, and in simulated searches without a best."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sweeps.report.headline import headline
from sweeps.results.comparison import corrected, count_pairs
from sweeps.results.leaderboard import rank, verdict
from sweeps.results.records import TrialRecord
from sweeps.results.run_folder import Run
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from tests.support.report_kit import folder


def trial(number, items, rounds=1, clusters=()):
    score = float(np.mean(items))
    fixed = {"loss": 1.0, "diverged": False, "time_s": 1.0, "seconds": 1.0, "at": 1.0}
    rows = tuple({"round": i, "score": score if i == 1 else 0.0} | fixed for i in range(1, rounds + 1))
    items = tuple(map(float, items))
    params = TrialParams("lora", {"r": number})
    return TrialRecord(f"t{number}", number, params, "finished", TrialHistory(rows), len(items),
                       items=items, clusters=tuple(clusters))  # fmt: skip


def answers(right, n=60):
    return [1.0] * right + [0.0] * (n - right)


def said(records):
    return verdict(rank(records), {})


def test_trials_whose_intervals_overlap_are_told_apart_by_item():
    """40 of 60 against 28 of these 40: intervals of 54-77 and 35-59 overlap, twelve answers speak for one and none for
    the other. McNemar: 2 / 2^12."""
    best, other = trial(0, answers(40)), trial(1, answers(28))
    assert best.interval()[0] < other.interval()[1]
    assert said([other, best])[0] == (
        "Rank 1 is better than all others at n=60 (paired by item, p <= 0.00049 for the best of 2 scores)"
    )


def test_trials_that_differ_on_as_many_items_either_way_are_not():
    one, other = answers(30), answers(30)[::-1]
    one[59] = 1.0
    told = said([trial(0, one), trial(1, other), trial(2, answers(2))])
    assert told[0].startswith("Ranks 1-2 (2 trials) cannot be told apart at n=60 (paired by item, p >= 1 ")


def test_the_best_is_the_best_of_all_rounds():
    """Ten rounds of two trials make 100 pairs of scores, eleven 121: 1 - (1 - 2 / 2^12)^121 = 0.057."""
    assert "Rank 1 is better than all others" in said([trial(0, answers(40), 10), trial(1, answers(28), 10)])[0]
    assert said([trial(0, answers(40), 11), trial(1, answers(28), 11)])[0] == (
        "Ranks 1-2 (2 trials) cannot be told apart at n=60 (paired by item, p >= 0.057 for the best of 22 scores)"
    )
    assert count_pairs([4, 2, 1]) == 4 * 2 + 4 + 2
    assert corrected([0.01, 0.001], [4, 2, 1]) == pytest.approx([1 - 0.99**8, 1 - 0.999**14])


def test_copies_of_an_item_count_once():
    """Six of twenty questions speak for the first: 2 / 2^6 at least, however often each was asked."""
    best, other = np.repeat(answers(14, 20), 3), np.repeat(answers(8, 20), 3)
    keys = [str(i) for i in range(20) for _ in range(3)]
    assert "Rank 1 is better" in said([trial(0, best), trial(1, other)])[0]
    first, shows = said([trial(0, best, 2, keys), trial(1, other, 2, keys)])
    assert first.startswith("Ranks 1-2 (2 trials) cannot be told apart at n=20 (paired by item, p >= 0.1")
    assert shows.startswith("n=20 shows differences from ")


def test_what_n_shows_follows_from_how_the_answers_differ():
    """Twelve of sixty differ, one way: a standard error of sqrt(0.2 x 0.8 / 59), times 1.96 + 0.84. Unpaired: 26."""
    assert said([trial(0, answers(40)), trial(1, answers(28))])[1] == (
        f"n=60 shows differences from {100 * (1.96 + 0.8416) * (0.16 / 59) ** 0.5:.0f} points up (80 % power)"
    )


def test_where_items_are_not_at_hand_it_says_unpaired(tmp_path):
    known = [trial(0, answers(40)), trial(1, answers(28))]
    older = [dataclasses.replace(one, items=()) for one in known]
    unpaired = "unpaired, by their intervals, as scores by item are not at hand"
    assert said(older)[0] == f"Ranks 1-2 (2 trials) cannot be told apart at n=60 ({unpaired})"
    mixed = said([*known, dataclasses.replace(trial(2, answers(39)), items=())])[0]
    assert mixed.startswith("Ranks 1-2 (2 trials) cannot be told apart at n=60 (paired by item")
    assert mixed.endswith("for the best of 3 scores; 1 of 2 unpaired, by their intervals)")
    other_items = trial(1, answers(28, 50))
    assert "unpaired" in said([known[0], other_items])[0]

    read = Run.read(folder(tmp_path / "kept", known))
    assert said(read.records) == said(known), "the table of trials keeps the items"
    assert "cannot be told" not in headline(read)
    assert "but 1 trial cannot be told apart from it (unpaired)" in headline(Run.read(folder(tmp_path / "old", older)))


def test_in_a_search_without_a_best_none_is_called_better():
    """300 searches of eight equal trials and three rounds each, on 120 items of which some are hard; the leaderboard
    has the best round of each. A trial is called worse than the luckiest in one of twenty, at most."""
    rng, called = np.random.default_rng(0), 0
    for _ in range(300):
        hard = rng.beta(2, 2, 120)
        rounds = (rng.random((8, 3, 120)) < hard).astype(float)
        best = [one[one.mean(1).argmax()] for one in rounds]
        told = said([trial(i, items, 3) for i, items in enumerate(best)])[0]
        called += "(8 trials) cannot be told apart" not in told
    assert called <= 15


def test_partial_credit_is_paired_too():
    rng = np.random.default_rng(1)
    easy = rng.random(80)
    best, other = np.clip(easy * 0.9 + 0.1, 0, 1), np.clip(easy * 0.9 + rng.normal(0, 0.02, 80), 0, 1)
    assert trial(0, best).interval()[0] < trial(1, other).interval()[1]
    assert "Rank 1 is better than all others" in said([trial(0, best), trial(1, other)])[0]
