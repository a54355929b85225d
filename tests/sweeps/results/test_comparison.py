"""Comparisons of finalists: by hand, against scipy and statsmodels, and over simulated sweeps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels

from benchmarks.winners import sweep
from sweeps.results.comparison import compare, corrected, first_group, in_words, mcnemar, paired
from sweeps.results.records import Final, ranked
from sweeps.results.uncertainty import comparable_means

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


def test_a_large_difference_in_clusters_stays_one_after_hundreds_of_corrections():
    """100 of 120 pairs of questions are right for the first alone: p is at most 2 exp(-200^2 / (2 * 100 * 2^2))."""
    first, second = np.ones(240), np.repeat([0.0, 1.0], [200, 40])
    p = paired(first, second, clusters=[str(i) for i in range(120) for _ in range(2)])
    assert p == pytest.approx(2 * np.exp(-50))
    assert p >= 2 * stats.binom(100, 0.5).sf(99), "the exact one: all 100 signs alike"
    assert corrected([p], [100, 100])[0] < 1e-12


def blocks(*means, seeds=2):
    """Scores of 100 questions for each mean, alike for all seeds."""
    return np.repeat([np.repeat(means, 100)], seeds, axis=0)


def test_who_was_asked_further_and_harder_questions_is_not_behind_for_it():
    """On the first 100 questions `more` is ahead, 80 against 70 %; then it alone was asked 100 harder ones: 40 %."""
    finals = {"fewer": blocks(0.7), "more": blocks(0.8, 0.4)}
    assert comparable_means(finals) == {"fewer": pytest.approx(0.5), "more": pytest.approx(0.6)}
    (one,) = compare(finals)
    assert (one.first, one.second, one.difference) == ("more", "fewer", pytest.approx(0.1))
    ranks = ranked([Final(name, 0.5, scores, name, 4) for name, scores in finals.items()])
    assert [one.name for one in ranks] == ["more", "fewer"]


def test_a_best_one_that_is_behind_on_the_questions_of_both_is_not_better():
    """`first` is best if later questions were as easy as `odd` says; on its own it is behind `other` in every one."""
    finals = {"first": blocks(0.60), "other": blocks(0.62, 0.50), "odd": blocks(0.30, 0.60)}
    means = comparable_means(finals)
    assert means["first"] == pytest.approx((0.60 + 0.60 + (0.30 - 0.12) / 2) / 2)
    assert max(means, key=means.__getitem__) == "first"
    assert first_group(compare(finals)) == ["first", "other"]


def test_items_of_one_cluster_count_once():
    """Ten copies of each item make a chance difference look certain, unless they are known to be copies."""
    a, b = np.array([1.0, 1, 1, 0, 0, 1, 0, 1]), np.array([0.0, 1, 0, 0, 0, 1, 0, 1])
    copies = [np.repeat(x, 10) for x in (a, b)]
    names = [str(i) for i in range(8) for _ in range(10)]
    assert paired(*copies) < 0.001
    assert paired(*copies, clusters=names) == pytest.approx(0.5, abs=0.03), "two of two by a fair coin: 2 / 4"


def test_a_difference_that_seeds_explain_is_no_difference():
    """Every item speaks for the first, but each of them was trained well once and badly twice."""
    lucky = np.array([[1.0] * 200, [0.2] * 200, [0.3] * 200])
    other = np.array([[0.9] * 200, [0.1] * 200, [0.2] * 200])
    assert paired(lucky.mean(0), other.mean(0)) < 0.001
    (one,) = compare({"lucky": lucky, "other": other})
    assert (one.first, one.second, one.difference) == ("lucky", "other", pytest.approx(0.1))
    assert one.p > 0.5
    assert in_words([one], 200).startswith(
        "lucky, other are indistinguishable (first from second +10.0 points, 95 % interval -"
    )
    assert "; n=200, p >= 0." in in_words([one], 200)


def test_corrected_p_values_by_hand():
    """Five finalists: 10 pairs for the smallest, 6 for the next, then 3, then 1; and none below one that is surer."""
    raw = [0.03, 0.001, 0.0009, 0.2]
    wanted = [1 - (1 - 0.03) ** 3, 1 - (1 - 0.001) ** 6, 1 - (1 - 0.0009) ** 10, 0.2]
    wanted[1] = max(wanted[1:3])
    assert corrected(raw) == pytest.approx(wanted)
    assert corrected([0.04]) == pytest.approx([0.04]), "of two there is one pair"
    assert corrected([0.0, 1.0]) == pytest.approx([0.0, 1.0])
    assert compare({"alone": RNG.random((3, 50))}) == []


def test_few_items_are_held_to_the_exact_test():
    """Five of thirty are right for the first alone, and none for the second: t says 0.02, McNemar 2 / 2^5."""
    first, second = np.ones((1, 30)), np.ones((1, 30))
    second[0, :5] = 0
    (one,) = compare({"first": first, "second": second})
    assert one.p == mcnemar(first[0], second[0]) == 0.0625


def test_the_seeds_of_a_pair_are_counted_once():
    """Two equal configurations of three seeds, which differ by 8 points: 5 % may be told apart, give or take 0.7 %."""
    luck = np.random.default_rng(5)
    apart = 0
    for _ in range(1000):
        right = np.clip(0.5 + 0.08 * luck.standard_normal((2, 3, 1)), 0, 1)
        one, other = (luck.random((2, 3, 500)) < right).astype(float)
        apart += compare({"one": one, "other": other})[0].p < 0.05
    assert 30 <= apart <= 65


def test_one_unstable_configuration_does_not_hide_what_others_learned():
    """A base of 20 % against three steady ones near 40 %; that a fourth jumps between 2 and 45 % is its own affair."""
    items = RNG.uniform(-0.1, 0.1, 500)

    def trained(*means):
        return np.array([(RNG.random(500) < mean + items).astype(float) for mean in means])

    steady = {f"steady {i}": trained(0.40, 0.404, 0.396) for i in range(3)}
    finals = steady | {"unstable": trained(0.02, 0.45, 0.40), "base": trained(0.20)}
    by_name = {one.second: one for one in compare(finals, untrained=["base"])}
    assert by_name["base"].p < 0.01
    assert first_group(list(by_name.values()))[:3] == sorted(steady, key=lambda name: -finals[name].mean())
    lucky = {"lucky": trained(0.8, 0.5, 0.8)} | {f"other {i}": trained(0.5, 0.5, 0.5) for i in range(5)}
    assert min(one.p for one in compare(lucky)) > 0.05, "one bad seed of three is no winner over five steady ones"


def test_other_items_are_refused():
    with pytest.raises(ValueError, match="3 and 2"):
        paired([1, 0, 1], [1, 0])


def simulated(better, taste, count, fixed):
    return [sweep(better, taste, 500, fixed, seed) for seed in range(count)]


def share(found, name):
    return np.mean([getattr(one, name) for one in found])


@pytest.mark.parametrize("taste", [0.0, 0.3])
def test_equal_configurations_have_no_winner_and_ten_points_are_found(taste):
    """Simulated sweeps as `benchmarks/winners.py` prints them: equals with three seeds and 500 items each, and what is
    better in stages, as in real sweeps."""
    equal = simulated((), taste, 200, fixed=True)
    assert share(equal, "declared") <= 0.02
    assert share(equal, "worse") <= 0.06
    assert share(equal, "inside") >= 0.93
    better = simulated((0.10,), taste, 60, fixed=False)
    assert share(better, "right") >= 0.80
    assert share(better, "declared") - share(better, "right") <= 0.01
