"""Where finalists' seeds and questions go, and when they end."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sweeps.results.allocation import Costs, Forecast, price, second_seed, sizes_of, spend
from sweeps.results.comparison import Look, _Slice, compare
from sweeps.results.decision import Budget, Progress, needed, next_stage

COSTS = Costs({"a": 10.0, "b": 10.0, "c": 10.0}, {"a": 0.01, "b": 0.01, "c": 0.01}, {"a": 30, "b": 30, "c": 30}, 2000)


def answers(score, seeds=2, questions=500, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random((seeds, questions)) < score).astype(float)


def test_what_is_plainly_worse_gets_one_confirmation_and_the_leader_two():
    scores = {"a": answers(0.7, 1), "b": answers(0.68, 1, seed=1), "c": answers(0.3, 1, seed=2)}
    assert second_seed(scores, COSTS) == {"a": (2, 500), "b": (2, 500), "c": (1, 500)}
    hopeless = replace(COSTS, most_seeds={"a": 1, "b": 1, "c": 1})
    best = max(scores, key=lambda name: scores[name].mean())
    assert second_seed(scores, hopeless) == {name: (1 + (name == best), 500) for name in "abc"}


def test_prices_count_trainings_and_questions_of_every_seed():
    now = {"a": (2, 500), "b": (1, 500)}
    assert price(now, {"a": (3, 1000), "b": (1, 500)}, COSTS) == pytest.approx(10 + (3 * 1000 - 2 * 500) * 0.01)


def test_more_goes_to_those_that_are_undecided_and_not_beyond_the_budget():
    scores = {"a": answers(0.7), "b": answers(0.68, seed=1), "c": answers(0.3, seed=2)}
    sizes, used = spend(Forecast(scores, "a", ["b"]), COSTS, 100.0)
    assert 80 < used <= 100
    assert used == pytest.approx(price(sizes_of(scores), sizes, COSTS))
    assert sizes["c"] == (2, 500)
    assert sizes["a"][0] > 2 < sizes["b"][0]


def test_questions_are_asked_where_they_are_cheap_and_seeds_agree():
    """Asking costs a hundredth here of what it does above, and no seed differs from another."""
    cheap = replace(COSTS, ask=dict.fromkeys("abc", 0.0001))
    scores = {"a": np.repeat(answers(0.7, 1), 6, 0), "b": np.repeat(answers(0.68, 1, seed=1), 6, 0)}
    sizes, _ = spend(Forecast(scores, "a", ["b"]), cheap, 5.0)
    assert sizes["a"] == sizes["b"] == (6, 2000)


def test_a_winner_ends_the_stages_and_a_tie_ends_them_when_the_budget_would_not_help():
    clear = {"a": answers(0.8, 4), "b": answers(0.5, 4, seed=1)}
    budget = Budget(1000.0)
    now = Progress(clear, seconds=500.0)
    now = replace(now, looks=[now.look(budget)])
    assert next_stage(now, budget, COSTS) is None
    assert needed(now, COSTS) is None
    tied = {"a": answers(0.6, 4), "b": answers(0.6, 4)[:, ::-1]}
    now = replace(now, scores=tied)
    assert next_stage(now, budget, COSTS) is None
    early = replace(now, seconds=100.0, looks=[replace(now, seconds=100.0).look(budget)])
    assert next_stage(early, budget, COSTS) is not None, "too early to give up"


def test_a_leader_that_is_no_better_than_chance_gets_two_seeds_and_no_more():
    now = Progress({"a": answers(0.02), "b": answers(0.02, 1, seed=1)}, seconds=30.0)
    now = replace(now, looks=[now.look(Budget(1000.0))])
    assert next_stage(now, Budget(1000.0), COSTS) is not None
    assert next_stage(now, Budget(1000.0), replace(COSTS, most_seeds={"a": 1, "b": 1})) is None


def test_one_seed_is_no_limit_where_that_seed_alone_keeps_the_verdict_open():
    """The leader's seeds differ widely, so how lucky the other's single seed was may change the verdict."""
    wide = np.concatenate([answers(score, 1, 200, seed) for seed, score in enumerate((0.42, 0.50, 0.34))])
    once = replace(COSTS, most_seeds={"a": 30, "b": 1, "c": 30})
    budget = Budget(1000.0)
    now = Progress({"a": wide, "b": answers(0.24, 1, 200, 9)}, seconds=40.0)
    now = replace(now, looks=[now.look(budget)])
    assert next_stage(now, budget, once)["b"][0] > 1
    near = replace(now, scores=now.scores | {"c": answers(0.40, 2, 200, 5)})
    near = replace(near, looks=[near.look(budget)])
    assert next_stage(near, budget, once)["b"][0] == 1


def test_what_would_decide_is_named():
    now = Progress({"a": answers(0.70, 3), "b": answers(0.66, 3, seed=1)}, seconds=90.0)
    now = replace(now, looks=[now.look(Budget(1000.0))])
    sizes, seconds = needed(now, COSTS)
    assert seconds == pytest.approx(price(sizes_of(now.scores), sizes, COSTS))
    assert 0 < seconds < 90 * 64


def exactly(*means, questions=2000, seed=0):
    """Answers of seeds with these means, to different questions each."""
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(np.arange(questions) < mean * questions) for mean in means], float)


@pytest.mark.parametrize("gap", [0.05, 0.06])
def test_what_is_promised_to_decide_does_so_if_the_differences_stay_as_they_are(gap):
    """Both differ from seed to seed by 4.2 points. So few seeds ask for more than 2.3 standard errors: 8 or 6 of them
    would give that, and p of 0.07."""
    means = {"a": (0.73, 0.67), "b": (0.73 - gap, 0.67 - gap)}
    now = Progress({name: exactly(*two, seed=place) for place, (name, two) in enumerate(means.items())}, seconds=40.0)
    now = replace(now, looks=[now.look(Budget(1000.0))])
    sizes, _ = needed(now, COSTS)
    scores = {
        name: exactly(*(means[name] * 15)[:seeds], questions=asked, seed=place)
        for place, (name, (seeds, asked)) in enumerate(sizes.items())
    }
    (then,) = compare(scores, looks=[Look(0.045, 0.045, sizes)])
    assert then.alone < 0.05


def test_the_forecast_of_degrees_of_freedom_is_what_the_test_then_has():
    """Of three finalists, with their own seeds as they are: the interval of a difference tells its quantile of t."""
    scores = {
        "a": exactly(0.72, 0.68, 0.70),
        "b": exactly(0.64, 0.60, seed=1),
        "c": exactly(0.50, 0.58, 0.51, 0.60, seed=2),
    }
    forecast = Forecast(scores, "a", ["b", "c"])
    slices = _Slice(scores, Look(0.05, 0.05, sizes_of(scores)), (), ())
    for name in ("b", "c"):
        _, error = slices.difference("a", name)
        assert forecast.freedom(name, sizes_of(scores)) == pytest.approx(error.freedom, rel=0.35), name


def test_the_interval_by_itself_is_beside_the_one_that_allows_for_all_looks():
    """One look of several, after which a thousandth of the error rate may be spent."""
    scores = {"a": exactly(0.71, 0.69), "b": exactly(0.63, 0.61, seed=1)}
    (found,) = compare(scores, looks=[Look(0.001, 0.001, sizes_of(scores))])
    alone, together = (np.subtract(ends, found.difference) for ends in (found.by_itself, found.interval))
    assert found.interval[0] < found.by_itself[0] < found.difference
    _, error = _Slice(scores, Look(1, 1, sizes_of(scores)), (), ()).difference("a", "b")
    few, usual = (stats.t.isf(level / 2, error.freedom) for level in (0.001, 0.05))
    assert together[1] / alone[1] == pytest.approx(few / usual)
    assert few / usual > 3, "with few seeds it is much wider"
    low, high, first, last = (f"{100 * end:.1f}" for end in (*found.by_itself, *found.interval))
    told = f"+8.0 points, 95 % interval {low} to {high}, for all stages together {first} to {last}"
    assert found.in_points() == told
    (once,) = compare(scores)
    assert once.in_points() == told.partition(", for all")[0]


def test_the_error_rate_that_a_sweep_left_is_all_that_a_later_budget_spends():
    first = Budget(100.0, 0.045)
    last = first.look(100.0, {})
    later = Budget(200.0, 0.05, start=100.0, last=last)
    assert last.rate == pytest.approx(0.045)
    assert later.look(100.0, {}).rate == pytest.approx(0.045)
    assert later.look(150.0, {}).rate < later.look(200.0, {}).rate == pytest.approx(0.05)


def test_a_pair_is_compared_on_the_questions_that_both_were_asked():
    a, b = answers(0.9, 3, 900), answers(0.5, 3, 300, seed=1)
    (found,) = compare({"a": a, "b": b})
    assert found.difference == pytest.approx(a[:, :300].mean() - b.mean())
    assert found.p < 0.01


def test_looks_make_a_verdict_harder_and_keep_one_that_was_given():
    """Three finalists; at the first look the difference was clear, at the second it is not."""
    a = np.hstack([answers(0.9, 4, 300), answers(0.1, 4, 300, seed=1)])
    b = np.hstack([answers(0.5, 4, 300, seed=2), answers(0.45, 4, 300, seed=3)])
    first = Look(0.03, 0.03, {"a": (4, 300), "b": (4, 300)})
    last = Look(0.05, 0.05, {"a": (4, 600), "b": (4, 600)})
    (alone,) = compare({"a": a, "b": b}, looks=[last])
    (told,) = compare({"a": a, "b": b}, looks=[first, last])
    assert alone.p > 0.05 > told.p
    steady = {"a": answers(0.62, 4, 600), "b": answers(0.55, 4, 600, seed=1)}
    (once,) = compare(steady, looks=[last])
    (twice,) = compare(steady, looks=[first, last])
    assert twice.p > once.p
    assert twice.interval[0] < once.interval[0]


def test_what_looks_likely_already_still_needs_a_further_look():
    """The gap is large, but the look so far may spend almost none of the error rate."""
    scores = {"a": answers(0.8), "b": answers(0.6, seed=1)}
    look = Look(1e-9, 1e-9, sizes_of(scores))
    now = Progress(scores, [look], seconds=60.0)
    assert now.comparisons()[0].alone >= 0.05
    assert Forecast(scores, "a", ["b"]).smallest_gap(sizes_of(scores)) > 2.3
    sizes, seconds = needed(now, COSTS)
    assert sizes != sizes_of(scores)
    assert seconds > 0


def test_a_sweep_without_minutes_spends_its_error_rate_evenly_and_one_with_minutes_at_the_end():
    """At 30 % of the budget: 0.05 log(1 + 0.3 (e - 1)), of Pocock's shape; and what O'Brien and Fleming's allows."""
    scores = {"a": answers(0.7), "b": answers(0.6, seed=1)}
    now = Progress(scores, seconds=300.0)
    even, late = now.look(Budget(1000.0, early=True)), now.look(Budget(1000.0))
    assert even.rate == pytest.approx(0.02078, abs=1e-5)
    assert late.rate == pytest.approx(4 * stats.norm.sf(stats.norm.isf(0.0125) / math.sqrt(0.3)), abs=1e-9)
    assert late.rate < 0.0002
    assert even.base_rate == late.base_rate == even.rate
    assert Progress(scores, seconds=1000.0).look(Budget(1000.0, early=True)).rate == pytest.approx(0.05)
