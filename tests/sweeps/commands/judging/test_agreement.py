"""Krippendorff's alpha: his own example, by hand, and judges with planted habits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sweeps.commands.judging.agreement import agreement, alpha
from tests.support.judging_kit import verdict

X = math.nan
# Krippendorff 2011, section C and E: four observers, twelve units, missing data.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, X, X, X],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, X, 3],
    [X, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, X],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, X],
]


def counted(ratings):
    """How many judges (rows) gave each value to each unit."""
    ratings = np.array(ratings)
    values = np.unique(ratings[~np.isnan(ratings)])
    return np.stack([(ratings == value).sum(0) for value in values], 1) if len(values) else np.zeros((2, 3), int)


@pytest.mark.parametrize(("level", "wanted"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_the_example_of_the_paper(level, wanted):
    assert alpha(counted(OBSERVERS), level) == pytest.approx(wanted, abs=5e-4)


def test_by_hand():
    """Two judges, AA AA BB AB: n = 8, A 5, B 3; seen 2 of 8 pairs, by chance 2 * 15 / (8 * 7)."""
    assert alpha(counted([[0, 0, 1, 0], [0, 0, 1, 1]]), "nominal") == pytest.approx(1 - (2 / 8) / (30 / 56))


def test_a_value_that_only_lone_ratings_have_is_none():
    """As above, with a tie that one judge alone gave: it pairs with nothing, and nothing is between A and B."""
    lone = counted([[0, 0, 2, 0, 1], [0, 0, 2, 2, X]])
    for level in ("nominal", "ordinal"):
        assert alpha(lone, level) == pytest.approx(1 - (2 / 8) / (30 / 56))


@pytest.mark.parametrize("ratings", [[[1, 1], [1, 1]], [[1, X], [X, 2]], [[X, X], [X, X]]])
def test_without_any_variation_or_pair_it_is_undefined(ratings):
    assert math.isnan(alpha(counted(ratings), "nominal"))


def said(judge, winners):
    return [verdict(winner, item, judge=judge) for item, winner in enumerate(winners)]


def test_judges_that_agree_that_guess_and_that_oppose_each_other():
    rng = np.random.default_rng(4)
    winners = [str(w) for w in rng.choice(["first", "second", "tie"], 400)]
    others = [str(w) for w in rng.choice(["first", "second", "tie"], 400)]
    same = agreement([*said("j", winners), *said("k", winners)])
    assert (same.alpha, same.low, same.high, same.judges, same.items) == (1, 1, 1, 2, 400)
    guessed = agreement([*said("j", winners), *said("k", others)])
    assert guessed.low < 0 < guessed.high
    assert abs(guessed.alpha) < 0.12
    swapped = [{"first": "second", "second": "first"}.get(w, w) for w in winners]
    assert agreement([*said("j", winners), *said("k", swapped)]).alpha < -0.4


def test_the_order_of_a_pair_is_no_disagreement():
    one = [verdict("first", i, "x", "y") if i % 2 else verdict("second", i, "x", "y") for i in range(10)]
    turned = [verdict("second", i, "y", "x", "k") if i % 2 else verdict("first", i, "y", "x", "k") for i in range(10)]
    assert agreement([*one, *turned]).alpha == 1


def test_unparsed_is_missing_and_no_opinion():
    winners = ["first", "second", "tie", "first", "second"]
    found = agreement([*said("j", winners), *said("k", ["first", "second", "unparsed", "first", "second"])])
    assert found.alpha == 1
    assert found.items == 4
    alone = agreement(said("j", winners))
    assert alone.judges == 1
    assert math.isnan(alone.alpha)


def test_equal_replies_are_no_agreement():
    """Two judges that oppose each other on every reply that they judge, among replies without a judge."""
    winners = ["first", "second"] * 5
    swapped = ["second", "first"] * 5
    equal = [verdict("", f"equal {i}", judge=judge) for i in range(90) for judge in "jk"]
    opposed = [*said("j", winners), *said("k", swapped)]
    found = agreement([*opposed, *equal])
    assert (found.alpha, found.items) == (agreement(opposed).alpha, 10)
    assert found.alpha < -0.8
    only = agreement(equal)
    assert (only.judges, only.items) == (2, 0)
    assert math.isnan(only.alpha)


def test_one_half_of_a_verdict_is_less_than_a_whole():
    """Ordinal: a tie against a win is half a disagreement; nominal: as bad as any."""
    winners = ["first", "second"] * 20
    near = ["tie" if i % 4 == 0 else w for i, w in enumerate(winners)]
    both = [*said("j", winners), *said("k", near)]
    assert agreement(both, "ordinal").alpha > agreement(both, "nominal").alpha
