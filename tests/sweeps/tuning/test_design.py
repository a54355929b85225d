"""Designs for --minutes: what fits, what stays as the user gave it, and what is said where too little fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sweeps.arc import SWEEP as ARC
from sweeps.arena import SWEEP as ARENA
from sweeps.resources.placement import Placement
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.design import (
    ENOUGH,
    SPARE,
    Costs,
    NoTime,
    Schedule,
    costs_of,
    design,
    expected_rounds,
    in_words,
    lanes_of,
    with_design,
)
from sweeps.tuning.disk_use import finalists_bytes
from sweeps.tuning.fit_to_minutes import fixed_by

SWEEP = replace(ARENA, minutes=5.0)
COSTS = Costs(train_s=1.2, ask_s=0.0055, lanes=2, test_questions=2000)  # of builtin:tiny on two cores
REAL = Costs(train_s=20.0, ask_s=0.2, lanes=2, test_questions=2000)  # of a real base


def test_rounds_by_hand():
    """Rungs at rounds 1, 3 and 9: nine trials start, three go on, one of them to the end."""
    assert expected_rounds(9, Schedule(9, 1), 3, pairs=1) == 9 * 1 + 3 * 2 + 1 * 6
    assert expected_rounds(9, Schedule(9, 1), 3, pairs=2) == 9 * 1 + 3 * 2 + 2 * 6, "one of each pair"
    assert expected_rounds(4, Schedule(2, 2), 3, pairs=1) == 8, "without a rung"


def test_the_parts_of_a_design_fill_its_time_and_are_affordable():
    own = design(SWEEP, COSTS, 300)
    assert own.search_s + own.finalists_s == pytest.approx(0.97 * 300 - 25)
    schedule = Schedule(own.rounds, own.grace_period)
    rounds = expected_rounds(own.trials, schedule, SWEEP.reduction_factor, 3)
    assert rounds * COSTS.round_s(own.search_size) <= own.search_s
    train_s, ask_s = COSTS.finalist(own.rounds)
    assert own.finalists * own.seeds * (train_s + own.questions * ask_s) <= own.finalists_s + 1e-6
    assert own.num_samples == SPARE * own.trials, "a fast machine may do more"


def test_more_minutes_train_longer_as_long_as_20_points_show():
    found = [design(SWEEP, REAL, 60 * minutes) for minutes in (10, 20, 40, 80)]
    assert all(one.shown <= ENOUGH for one in found)
    assert [one.rounds for one in found] == sorted(one.rounds for one in found)
    assert found[-1].rounds == SWEEP.rounds, "never more than the script has"


def test_what_a_user_fixes_stays():
    task = SWEEP.pairs[0].task
    argv = ["--num-samples=7", "--rounds", "5", "--finalists", "2", "--task.search-size", "200", "--minutes", "9"]
    fixed = fixed_by(argv, task)
    assert fixed == {"num_samples", "rounds", "finalists", "search_size"}
    given = replace(SWEEP, num_samples=7, rounds=5, finalists=2)
    given = with_size(given, 200)
    own = design(given, COSTS, 540, fixed)
    assert (own.trials, own.num_samples, own.rounds, own.search_size) == (7, 7, 5, 200)
    assert own.finalists == 2 + 3, "and the defaults, as always"
    assert own.finalists_s > own.search_s, "what the search does not need is the finalists'"
    assert design(replace(given, grace_period=3), COSTS, 540, fixed).grace_period == 3
    none = design(replace(SWEEP, finalists=0), COSTS, 300)
    assert (none.finalists, none.finalists_s) == (0, 0.0)
    assert none.search_s == pytest.approx(0.97 * 300 - 25)


def test_a_size_of_the_test_split_that_is_given_stays():
    task = SWEEP.pairs[0].task
    fixed = fixed_by(["--task.test-size", "700"], task)
    assert fixed == {"test_size"}
    given = replace(SWEEP, pairs=tuple(replace(p, task=replace(task, test_size=700)) for p in SWEEP.pairs))
    assert design(given, COSTS, 300, fixed).questions == 700 != design(given, COSTS, 300).questions


def with_size(sweep, count):
    return replace(sweep, pairs=tuple(replace(p, task=p.task.with_search_size(count)) for p in sweep.pairs))


def test_with_several_objectives_every_trial_runs_to_its_end():
    several = replace(SWEEP, objectives=("score", "seconds"))
    own = design(several, COSTS, 600)
    assert own.grace_period == own.rounds, "ASHA is off"
    assert with_design(several, own).rungs() == [own.rounds]
    assert own.trials * own.rounds * COSTS.round_s(own.search_size) <= own.search_s


def test_what_an_earlier_sweep_gives_to_try_first_leaves_room_for_the_defaults():
    first = tuple(TrialParams("lora", {"r": r}) for r in (4, 8, 16, 32, 64, 128))
    own = replace(design(SWEEP, COSTS, 300), trials=16)
    assert with_design(replace(SWEEP, first=first), own).first == first[:4], "a quarter of the trials"
    assert with_design(replace(SWEEP, first=first), replace(own, trials=4)).first == first[:3], "one of each learner"


def test_the_sweep_gets_the_sizes_of_the_design():
    own = design(SWEEP, Costs(0.2, 0.01, 2, 2000), 300)
    assert own.search_size < 250, "questions take no longer than the training"
    sweep = with_design(SWEEP, own)
    assert {len(pair.task.search()) for pair in sweep.pairs} == {own.search_size}
    assert (sweep.num_samples, sweep.rounds) == (own.num_samples, own.rounds)
    assert sweep.effective_grace_period() == own.grace_period
    fields = sweep.to_dict()["pairs"][0]["task"]["fields"]
    assert fields["search_size"] == own.search_size, "so sweep.yaml tells which questions were asked"


def test_too_little_time_is_said_first_with_what_would_help():
    short = replace(SWEEP, minutes=4.0)
    dear = replace(REAL, ask_s=1.0)
    own = design(short, dear, 235)
    assert own.shown > ENOUGH
    lines = in_words(short, own, dear, 235)
    assert lines[0].startswith("no design for 4 minutes shows 20 points; ")
    assert " would show " in lines[0]
    assert "20 points" not in in_words(SWEEP, design(SWEEP, COSTS, 300), COSTS, 300)[0]
    with pytest.raises(NoTime, match="give more minutes or name fewer learners"):
        design(SWEEP, REAL, 60)
    with pytest.raises(NoTime, match="give more minutes, leave out --num-samples, or name fewer learners"):
        design(replace(SWEEP, num_samples=500), REAL, 600, {"num_samples"})


def test_few_questions_are_what_holds_a_design_back():
    """With 40 questions twice as many help more than twice the time."""
    few = replace(COSTS, test_questions=20)
    assert "twice the test questions would show" in in_words(SWEEP, design(SWEEP, few, 600), few, 600)[0]


def test_costs_from_probes():
    probes = [
        {"round_s": 2.0, "evaluation_s": 0.5},
        {"round_s": 4.0, "evaluation_s": 1.5},
        {"round_s": 3, "evaluation_s": 1},
    ]
    costs = costs_of(ARENA, probes, lanes_of(Placement(1, 1), at_once=4))
    assert (costs.train_s, costs.lanes, costs.per_example) == (pytest.approx(2.0), 4, False)
    assert costs.ask_s == pytest.approx(1.0 / 250)
    assert costs.test_questions == 2000, "the arena makes as many as are asked for"
    on_test = [one | {"test_question_s": seconds} for one, seconds in zip(probes[:2], (0.5, 1.5), strict=True)]
    alone = costs_of(ARC, on_test, lanes_of(Placement(1, 1), at_once=1))
    assert alone.per_example
    assert alone.train_s == 0, "they train for each question that they are asked"
    assert alone.round_s(48) == pytest.approx(3.0 + 0.1), "a round of the search, of the mean of both"
    assert alone.finalist(3)[1] == pytest.approx(3 * 1.0), "questions of the test split may take longer"
    assert alone.test_questions == 191, "all of the size, fewer than the limit"
    assert alone.independent


def test_states_of_finalists_have_a_model_for_each_question_of_the_test_split():
    """191 questions of the test split, 48 of the search: a state is four times as large as a trial's."""
    probes = [{"checkpoint": 48_000_000}, {"checkpoint": 24_000_000}]
    one, two = (finalists_bytes(ARC, probes, 2, trainings) for trainings in (1, 2))
    assert two - one == pytest.approx(191_000_000, rel=0.01)
