"""Bases are compared by their best finalists, learners on the best base, and each with its own untouched base."""

from __future__ import annotations

import numpy as np

from sweeps.results.allocation import Costs
from sweeps.results.best_of_each import best_of_each
from sweeps.results.comparison import compare
from sweeps.results.confirmation import Confirmation, Spending, beside_answers, confirmation_from
from sweeps.results.finals import candidates, harm, markdown, verdict
from sweeps.results.pair_comparison import HEAD, in_words, table
from sweeps.results.records import Final, TrialRecord, is_untouched, untouched_name
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from tests.support.report_kit import items


def final(number: int, pair: str, rate: float) -> Final:
    return Final(f"trial {number} ({pair})", rate, items(rate, seed=number), f"t{number}", 4, pair=pair)


def untouched(label: str, rate: float) -> Final:
    return Final(untouched_name(label), None, items(rate, seeds=1, seed=90 + len(label)))


FINALS = [
    final(1, "lora@small", 0.5),
    final(2, "lora@large", 0.9),
    final(3, "soft_prompt@large", 0.7),
    final(4, "soft_prompt@small", 0.45),
    untouched("small", 0.2),
    untouched("large", 0.6),
]
KNOWN = Confirmation(FINALS, parameters={"small": 2_000_000, "large": 8_000_000})


def test_the_best_of_each_base_and_of_each_learner_on_the_best_base() -> None:
    best = best_of_each(KNOWN)
    assert [one.name for one in best.bases] == ["trial 2 (lora@large)", "trial 1 (lora@small)"]
    assert [one.name for one in best.learners] == ["trial 2 (lora@large)", "trial 3 (soft_prompt@large)"]


def test_differences_are_those_of_finalists_paired_by_question_and_corrected() -> None:
    bases, learners = in_words(KNOWN)
    pairs = compare(KNOWN.scores, (), KNOWN.untrained, "trial 2 (lora@large)")
    found = {one.second: one for one in pairs}
    assert found["trial 1 (lora@small)"].in_points() in bases
    assert bases.startswith("Bases, each by its best finalist: large is better than small (+")
    assert learners.startswith("Learners on large, each by its best finalist: lora is better than soft_prompt (+")
    assert found["trial 3 (soft_prompt@large)"].in_points() in learners
    assert {bases, learners} <= {*verdict(KNOWN)}
    near = Confirmation([final(1, "lora@small", 0.5), final(2, "lora@large", 0.52)])
    assert "cannot be told apart from" in in_words(near)[0]


def test_points_per_minute_and_per_million_parameters() -> None:
    names = [one.name for one in FINALS]
    costs = Costs(dict.fromkeys(names, 120.0), dict.fromkeys(names, 1.0), dict.fromkeys(names, 2), 300)
    known = Confirmation(FINALS, spending=Spending(1.0, 2.0, costs), parameters=KNOWN.parameters)
    row = dict(zip(HEAD, table(known)[0], strict=True))
    best, base = known.finals[0].score, next(one.score for one in FINALS if one.name == "untouched base large")
    assert (row["base"], row["minutes to train"], row["parameters, million"]) == ("large", "2", "8")
    assert float(row["gain, points"]) == round(100 * (best - base), 1)
    assert float(row["gain per minute"]) == float(f"{100 * (best - base) / 2:.3g}")
    assert float(row["points per million parameters"]) == float(f"{100 * best / 8:.3g}")
    assert "| small | trial 1 (lora@small) |" in markdown(known)
    again = confirmation_from(beside_answers(known), FINALS, ())
    assert table(again) == table(known)


def test_a_finalist_is_harmed_only_below_its_own_untouched_base() -> None:
    """The small base's finalists are below the large untouched base, which says nothing about their training."""
    assert harm(KNOWN) == ""
    worse = Confirmation([*FINALS[:4], untouched("small", 0.9), untouched("large", 0.6)])
    told = harm(worse)
    assert "trial 1 (lora@small), trial 4 (soft_prompt@small) worse than its untouched base" in told
    assert "large" not in told


def test_the_gain_of_the_best_is_over_its_own_base() -> None:
    gain = 100 * (KNOWN.finals[0].score - next(one.score for one in FINALS if one.name == "untouched base large"))
    assert f"The best is {gain:+.1f} points from the untouched base large" in verdict(KNOWN)
    other = Confirmation([final(1, "lora@small", 0.5), untouched("small", 0.1), untouched("large", 0.5)])
    lines = verdict(other)
    assert "The untouched base large is among them: that base is as good without training" in lines
    assert not any("nothing was shown to be learned" in line for line in lines)


def test_one_base_has_no_comparison_of_bases() -> None:
    plain = Confirmation([Final("trial 1", 0.5, items(0.5), "t1", 4), Final("untouched base", None, items(0.2, 1))])
    assert (in_words(plain), table(plain)) == ([], [])
    assert is_untouched("untouched base")
    assert "untouched base" in markdown(plain)


def test_every_pair_has_a_finalist() -> None:
    """Otherwise a base would be compared by its default alone, with one that the search has tuned."""
    records = [
        TrialRecord(
            f"t{number}",
            number,
            TrialParams(pair, {"r": number}),
            "finished",
            TrialHistory(({"round": 1, "score": score, "diverged": False},)),
            100,
        )
        for number, (pair, score) in enumerate(
            [("lora@a", 0.9), ("lora@a", 0.8), ("lora@b", 0.3), ("lora@b", 0.4), ("soft@b", 0.1)]
        )
    ]
    chosen = candidates(records, 2, [TrialParams("lora@b", {"r": 2})], 1)
    assert [one.name for one in chosen] == [
        "trial 0 (lora@a)",
        "trial 1 (lora@a)",
        "trial 3 (lora@b)",
        "trial 4 (soft@b)",
        "trial 2 (lora@b, default)",
    ]
    assert np.isclose(chosen[2].searched or 0.0, 0.4)
