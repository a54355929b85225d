"""Win rates, strengths and favoured places: by hand, against exact coverage and statsmodels, with planted faults."""

from __future__ import annotations

import math
from math import comb, exp, log

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize

from sweeps.commands.judging.win_rates import bradley_terry, position_bias, win_rate
from sweeps.results.statistics import bootstrap_mean, wilson, win_interval
from tests.support.judging_kit import verdict, verdicts


def test_a_win_rate_by_hand():
    found = win_rate([*verdicts(20, 10, 10), verdict("unparsed", "u")], "x")
    assert (found.wins, found.ties, found.losses, found.unparsed, found.n) == (20, 10, 10, 1, 40)
    assert found.rate == 0.625
    assert found.warning() == "1 of 41 verdicts could not be parsed"
    other = win_rate(verdicts(20, 10, 10), "y")
    assert other.rate == 0.375
    assert other.interval == pytest.approx((1 - found.interval[1], 1 - found.interval[0]))


def test_ten_of_thirteen_shows_next_to_nothing():
    found = win_rate(verdicts(10, 0, 3), "x")
    assert [round(100 * bound) for bound in found.interval] == [50, 92]
    assert found.interval[0] < 0.5
    assert found.warning() == "only 13 items, at least 30 are needed"
    assert win_rate(verdicts(20, 0, 10), "x").warning() == ""


def test_equal_replies_are_ties_that_nobody_judged():
    """Four of a hundred were judged, all four won: two-sided, 2 / 2^4."""
    found = win_rate([*verdicts(4, 0, 0), *(verdict("", f"equal {item}") for item in range(96))], "x")
    assert (found.rate, found.n, found.equal) == (0.52, 100, 96)
    assert found.p == pytest.approx(0.125)
    assert found.warning() == "only 4 of 100 items judged, as the other replies are equal, at least 30 are needed"
    many = win_rate([*verdicts(20, 0, 12), verdict("", "equal")], "x")
    assert many.warning() == "32 of 33 items judged, as the other replies are equal"
    assert win_rate([verdict("", "equal")], "x").p == 1


def test_no_readable_verdict_has_no_rate():
    found = win_rate([verdict("unparsed")], "x")
    assert found.n == 0
    assert math.isnan(found.rate)
    with pytest.raises(ValueError, match="no verdicts"):
        win_rate([], "x")


def test_what_is_not_independent_is_not_pooled():
    with pytest.raises(ValueError, match="one judge on one pair, got 2"):
        win_rate([verdict("first", 1), verdict("first", 1, judge="k")], "x")
    with pytest.raises(ValueError, match="item 1 of x and y 2 times"):
        win_rate([verdict("first", 1), verdict("first", 1, first="y", second="x")], "x")


@pytest.mark.parametrize(("wins", "n"), [(0, 1), (0, 20), (20, 20), (1, 2), (10, 13), (55, 200)])
def test_without_ties_the_interval_is_wilsons(wins, n):
    assert win_interval(wins, n - wins, n) == pytest.approx(wilson(wins, n), abs=1e-7)


@pytest.mark.parametrize(("wins", "losses", "n"), [(20, 10, 40), (3, 0, 12), (0, 0, 30), (30, 5, 36), (0, 7, 9)])
def test_the_interval_ends_where_the_score_test_does(wins, losses, n):
    """Straight from its definition: at each end, the difference seen is 1.96 standard errors off, under the likeliest
    win and loss rates that have such a difference, which are searched here numerically."""
    for bound in win_interval(wins, losses, n):
        d = 2 * bound - 1
        if abs(d) > 1 - 1e-9:
            continue

        def unlikely(lose, d=d):
            parts = zip((wins, losses, n - wins - losses), (lose + d, lose, 1 - 2 * lose - d), strict=True)
            return -sum(count * log(max(p, 1e-12)) for count, p in parts if count)

        ends = (max(0.0, -d), (1 - d) / 2)
        grid = np.linspace(*ends, 2001)
        start = min(grid, key=unlikely)
        lose = minimize(lambda v: unlikely(v[0]), [start], bounds=[ends], method="Nelder-Mead", tol=1e-12).x[0]
        z = (wins - losses - n * d) / math.sqrt(n * (2 * lose + d - d * d))
        assert abs(z) == pytest.approx(1.96, abs=2e-3)


def coverage(win: float, lose: float, n: int, interval) -> float:
    """Exact: the probability of all counts whose interval holds the true rate."""
    truth, held = win + (1 - win - lose) / 2, 0.0
    for wins in range(n + 1):
        for losses in range(n + 1 - wins):
            ties = n - wins - losses
            p = comb(n, wins) * comb(n - wins, losses) * win**wins * lose**losses * (1 - win - lose) ** ties
            if p > 1e-9:
                low, high = interval(wins, losses, n)
                held += p * (low - 1e-9 <= truth <= high + 1e-9)
    return held


@pytest.mark.parametrize("truth", [(0.3, 0.3), (0.5, 0.1), (0.1, 0.02), (0.8, 0.2), (0.95, 0.0), (0.05, 0.05)])
def test_the_interval_covers_what_it_promises(truth):
    """Exactly, over all outcomes of 30 items: score intervals waver around 95 %."""
    assert 0.92 < coverage(*truth, 30, win_interval) <= 1


def test_a_bootstrap_would_not_have():
    def resampled(wins, losses, n):
        return bootstrap_mean([1.0] * wins + [0.5] * (n - wins - losses) + [0.0] * losses)

    assert coverage(0.95, 0.0, 10, resampled) < 0.5
    assert coverage(0.95, 0.0, 10, win_interval) > 0.9


def test_coverage_of_simulated_judging():
    rng, truth, held = np.random.default_rng(5), 0.45 + 0.35 / 2, 0
    for _ in range(1000):
        wins, ties, losses = map(int, rng.multinomial(40, (0.45, 0.35, 0.2)))
        low, high = win_rate(verdicts(wins, ties, losses), "x").interval
        held += low <= truth <= high
    assert 0.93 < held / 1000 < 0.97


def test_strengths_of_two_are_their_log_odds():
    """14 wins and 6 losses, 10 ties, and the tie that is added: log (19.5 / 11.5)."""
    one, other = bradley_terry(verdicts(14, 10, 6))
    assert (one.checkpoint, other.checkpoint) == ("x", "y")
    assert one.strength - other.strength == pytest.approx(log(19.5 / 11.5), abs=1e-6)
    assert one.strength + other.strength == pytest.approx(0, abs=1e-9)


def simulated(strengths: dict[str, float], items: int, seed: int):
    rng, names = np.random.default_rng(seed), list(strengths)
    for item in range(items):
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                wins = rng.random() < 1 / (1 + exp(strengths[second] - strengths[first]))
                yield verdict("first" if wins else "second", item, first, second)


def test_strengths_equal_a_logistic_regression():
    made = list(simulated({"a": 0.7, "b": 0.1, "c": -0.8, "d": 0.0}, 40, 3))
    rows, won = [], []
    for v in made:
        rows.append([(v.first == name) - (v.second == name) for name in "bcd"])
        won.append(v.points(v.first))
    for i, first in enumerate("abcd"):  # the tie that every pair has more
        for second in "abcd"[i + 1 :]:
            rows.append([(first == name) - (second == name) for name in "bcd"])
            won.append(0.5)
    fitted = np.array([0.0, *sm.GLM(won, np.array(rows, float), family=sm.families.Binomial()).fit().params])
    wanted = dict(zip("abcd", fitted - fitted.mean(), strict=True))
    found = {one.checkpoint: one.strength for one in bradley_terry(made, resamples=1)}
    assert found == pytest.approx(wanted, abs=1e-5)


def test_planted_strengths_are_recovered_and_covered():
    planted, held = {"a": 1.0, "b": 0.0, "c": -1.0}, 0
    found = bradley_terry(list(simulated(planted, 2000, 0)), resamples=100)
    assert [one.checkpoint for one in found] == ["a", "b", "c"]
    for one in found:
        assert one.strength == pytest.approx(planted[one.checkpoint], abs=0.1)
    for seed in range(20):
        found = bradley_terry(list(simulated(planted, 60, seed)), resamples=150)
        held += sum(one.low <= planted[one.checkpoint] <= one.high for one in found)
    assert held >= 0.87 * 60, held


def test_who_won_everything_has_no_upper_end():
    made = [verdict("first", i, a, b) for i in range(40) for a, b in ("ab", "bc", "ac")]
    best, middle, worst = bradley_terry(made, resamples=50)
    assert (best.high, worst.low) == (math.inf, -math.inf)
    assert 0 < best.low < math.inf
    assert math.isfinite(middle.low)
    assert math.isfinite(middle.high)


def test_checkpoints_that_nothing_connects_have_no_common_scale():
    made = [verdict("first", 1, "a", "b"), verdict("tie", 1, "c", "d"), verdict("unparsed", 1, "b", "c")]
    with pytest.raises(ValueError, match=r"connects \[a, b\] with \[c, d\]; judge a pair across them"):
        bradley_terry(made)


def test_a_judge_that_always_says_a_decides_nothing():
    made = [verdict("AA", item) for item in range(40)]
    assert win_rate(made, "x").rate == 0.5
    assert win_rate(made, "x").ties == 40
    bias = position_bias(made)
    assert (bias.first_shown, bias.second_shown, bias.consistent, bias.n) == (1, 0, 0, 40)


def test_position_bias_by_hand():
    said = ["AB", "BA", "==", "AA", "AA", "BB", "A=", "=B", "A?", ""]
    bias = position_bias([verdict(orders, item) for item, orders in enumerate(said)])
    assert bias.n == 8, "neither what was not read nor what was not shown"
    assert (bias.first_shown, bias.second_shown, bias.consistent) == (2 / 8, 1 / 8, 3 / 8)
    assert position_bias([verdict("")]).n == 0
