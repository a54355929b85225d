"""Comparisons of finalists: by hand, against scipy and statsmodels, and over simulated sweeps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels
from statsmodels.stats.multitest import multipletests

from benchmarks.winners import FINALISTS, rates
from sweeps.results.comparison import between_seeds, compare, first_group, in_words, mcnemar, paired

RNG = np.random.default_rng(1)


def test_mcnemar_by_hand():
    """Nine items where only the first is right, one where only the second is: 2 (1 + 10) / 2^10."""
    first, second = [1] * 9 + [0] + [1] * 20, [0] * 9 + [1] + [1] * 20
    assert mcnemar(first, second) == pytest.approx(22 / 1024)
    assert mcnemar(first, first) == 1.0


def test_mcnemar_equals_statsmodels():
    for _ in range(20):
        a, b = RNG.random(80) < 0.6, RNG.random(80) < 0.5
        table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
        assert mcnemar(a, b) == pytest.approx(mcnemar_of_statsmodels(table, exact=True).pvalue)
        assert paired(a.astype(float), b.astype(float)) == mcnemar(a, b)


def test_partial_credit_equals_scipys_randomisation_test():
    a = RNG.random(60)
    b = np.clip(a - RNG.normal(0.03, 0.1, 60), 0, 1)
    wanted = stats.permutation_test(
        (a, b), lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=20_000, rng=3
    ).pvalue
    assert paired(a, b) == pytest.approx(wanted, abs=0.01)


def test_items_of_one_cluster_count_once():
    """Ten copies of each item make a chance difference look certain, unless they are known to be copies."""
    a, b = np.array([1.0, 1, 1, 0, 0, 1, 0, 1]), np.array([0.0, 1, 0, 0, 0, 1, 0, 1])
    copies = [np.repeat(x, 10) for x in (a, b)]
    names = [str(i) for i in range(8) for _ in range(10)]
    assert paired(*copies) < 0.001
    assert paired(*copies, clusters=names) == pytest.approx(0.5, abs=0.03), "two of two by a fair coin: 2 / 4"


def test_between_seeds_equals_students_test():
    a, b = RNG.random((3, 50)), RNG.random((4, 50))
    wanted = stats.ttest_ind(a.mean(1), b.mean(1)).pvalue
    assert between_seeds([a, b], 0, 1) == pytest.approx(wanted)
    assert between_seeds([a[:1], b[:1]], 0, 1) == 1.0


def test_a_difference_that_seeds_explain_is_no_difference():
    """Every item speaks for the first, but each of them was trained well once and badly twice."""
    lucky = np.array([[1.0] * 200, [0.2] * 200, [0.3] * 200])
    other = np.array([[0.9] * 200, [0.1] * 200, [0.2] * 200])
    assert paired(lucky.mean(0), other.mean(0)) < 0.001
    (one,) = compare({"lucky": lucky, "other": other})
    assert (one.first, one.second, one.difference) == ("lucky", "other", pytest.approx(0.1))
    assert one.p > 0.5
    assert in_words([one], 200).startswith("lucky, other are indistinguishable at n=200 (p >= 0.")


def test_single_seeds_are_compared_by_item_and_corrected_as_statsmodels_does():
    scores = {name: (RNG.random((1, 300)) < p).astype(float) for name, p in (("a", 0.8), ("b", 0.6), ("c", 0.75))}
    comparisons = compare(scores)
    raw = [mcnemar(scores["a"][0], scores[c.second][0]) for c in comparisons]
    assert [c.p for c in comparisons] == pytest.approx(multipletests(raw, method="fdr_bh")[1])
    assert first_group(comparisons)[0] == "a"
    assert compare({"alone": scores["a"]}) == []


def test_other_items_are_refused():
    with pytest.raises(ValueError, match="3 and 2"):
        paired([1, 0, 1], [1, 0])


def test_equal_configurations_have_no_winner_and_ten_points_are_found():
    """200 simulated sweeps of each kind, as `benchmarks/winners.py` prints them."""
    declared, _, called_worse = rates(0.0, 200)
    assert declared <= 0.05
    assert called_worse <= 0.10
    declared, right, _ = rates(0.10, 200)
    assert right >= 0.80
    assert declared - right <= 0.01
    assert FINALISTS == 5
