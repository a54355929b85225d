"""Several objectives: Optuna gets all of them, no trial is stopped early, and the report has the Pareto front."""

from __future__ import annotations

import math
from dataclasses import replace

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from search_spaces.space import Space
from sweeps.arena import SWEEP as ARENA
from sweeps.cli.flags import parse
from sweeps.results.pareto import costs, front, in_words
from sweeps.results.records import TrialRecord
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.style import SWEEP as STYLE
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
from trainables.bad_input import BadInput

BOTH = ("score", "trainable_parameters")
SIZE = Space({"size": FloatDistribution(0.0, 1.0)})


def record(number, score, parameters, status="finished"):
    row = {"round": 4, "score": score, "trainable_parameters": parameters, "seconds": 1.0 + number}
    row |= {"diverged": status == "diverged"}
    return TrialRecord(f"t{number}", number, TrialParams("lora", {}), status, TrialHistory((row,)), 100)


def test_the_front_is_what_no_other_beats():
    records = [
        record(0, 0.5, 100),
        record(1, 0.7, 300),
        record(2, 0.6, 300),  # beaten by 1
        record(3, 0.7, 200),  # beats 1
        record(4, 0.4, 100),  # beaten by 0
        record(5, 0.5, 100),  # level with 0
        record(6, 0.9, 50, "diverged"),  # cannot win
        record(7, 0.1, 10),
    ]
    assert [one.number for one in front(records, BOTH)] == [3, 0, 5, 7]
    assert in_words(records, BOTH) == [
        "Pareto front of score and trainable_parameters: trial 3 (70.0 %, 200); trial 0 (50.0 %, 100);"
        " trial 5 (50.0 %, 100); trial 7 (10.0 %, 10)"
    ]
    # A third objective: 1 is faster than 3 and stands, 5 is slower than its equal 0 and falls.
    assert [one.number for one in front(records, (*BOTH, "seconds"))] == [1, 3, 0, 7]
    assert in_words(records, ("score",)) == []


def test_a_trial_is_on_the_front_with_one_checkpoint():
    """The round whose adapter is kept forgets more, and has a higher loss, than the last one does."""
    rounds = [
        {"round": 1, "score": 0.9, "loss": 0.7, "seconds": 3.0, "trainable_parameters": 8, "forgetting_score": 0.1},
        {"round": 2, "score": 0.4, "loss": 0.2, "seconds": 3.0, "trainable_parameters": 8, "forgetting_score": 0.8},
    ]
    one = replace(record(0, 0.9, 8), history=TrialHistory(tuple(rounds)))
    assert costs(one, (*BOTH, "seconds", "loss", "out_of_domain")) == pytest.approx((0.1, 8, 3.0, 0.7, 0.9))


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_optuna_is_told_all_objectives_and_finds_the_small_and_good(tmp_path, sampler):
    space = Space({"size": FloatDistribution(0.0, 1.0), "noise": FloatDistribution(0.0, 1.0)})
    settings = SearchSettings(space, "two", seed=0, rounds=2, sampler=sampler, objectives=BOTH)
    search = OptunaSearcher(settings, f"sqlite:///{tmp_path}/optuna.db")
    for number in range(12):
        params = search.suggest(f"t{number}")["params"]
        size = 1 + round(100 * params.fields["size"])
        bad = number == 3
        for round_ in (1, 2):
            result = {"training_iteration": round_, "score": 0.5, "trainable_parameters": size, "time_total_s": 1.0}
            result |= {"diverged": bad, "score": 0.0} if bad and round_ == 2 else {}
            (search.on_trial_complete if round_ == 2 else search.on_trial_result)(f"t{number}", result)
    assert search.suggest("stopped")
    search.on_trial_complete("stopped", {"training_iteration": 1, "score": 0.5, "trainable_parameters": 5})
    trials = optuna.load_study(study_name="two", storage=f"sqlite:///{tmp_path}/optuna.db").trials
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 12 + [TrialState.PRUNED]
    sizes = [1 + round(100 * t.params["size"]) for t in trials[:12]]
    told = [[0.5, size] for size in sizes]
    told[3] = [0.0, math.inf]  # one that diverged is small for nothing
    assert [t.values for t in trials[:12]] == told
    assert trials[3].user_attrs["ended"] == "diverged"


def test_seconds_are_a_trials_own_and_not_those_that_pass_beside_its_neighbours(tmp_path):
    settings = SearchSettings(SIZE, "quick", seed=0, rounds=2, objectives=("score", "seconds"))
    search = OptunaSearcher(settings, f"sqlite:///{tmp_path}/optuna.db")
    search.suggest("t0")
    for round_ in (1, 2):
        result = {"training_iteration": round_, "score": 0.25 * round_, "seconds": 3.0}
        told = search.on_trial_complete if round_ == 2 else search.on_trial_result
        told("t0", result | {"time_total_s": 60.0 * round_})
    (trial,) = optuna.load_study(study_name="quick", storage=f"sqlite:///{tmp_path}/optuna.db").trials
    assert trial.values == [0.5, 6.0]


def test_what_was_not_trained_on_is_an_objective_that_is_to_be_large(tmp_path):
    both = ("score", "out_of_domain")
    records = [record(number, score, 1) for number, score in enumerate((0.8, 0.6, 0.5))]
    for one, kept in zip(records, (0.1, 0.4, 0.3), strict=True):
        one.history[-1]["forgetting_score"] = kept
    assert [one.number for one in front(records, both)] == [0, 1], "2 is beaten by 1 in both"
    settings = SearchSettings(SIZE, "kept", seed=0, rounds=1, objectives=both)
    search = OptunaSearcher(settings, f"sqlite:///{tmp_path}/optuna.db")
    search.suggest("t0")
    search.on_trial_complete("t0", {"training_iteration": 1, "score": 0.5, "forgetting_score": 0.25})
    search.suggest("t1")
    search.on_trial_complete("t1", {"training_iteration": 1, "score": 0.0, "loss": float("nan"), "diverged": True})
    trials = optuna.load_study(study_name="kept", storage=f"sqlite:///{tmp_path}/optuna.db").trials
    assert [t.values for t in trials] == [[0.5, 0.25], [0.0, 0.0]]
    replace(STYLE, objectives=both).validate()
    with pytest.raises(BadInput, match="objective 'out_of_domain': lora does not ask elsewhere"):
        replace(ARENA, objectives=both).validate()


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_trial_that_diverged_has_the_worst_loss(tmp_path, sampler):
    settings = SearchSettings(SIZE, "lost", seed=0, rounds=1, sampler=sampler, objectives=("score", "loss"))
    search = OptunaSearcher(settings, f"sqlite:///{tmp_path}/optuna.db")
    for number in range(24):
        lost = number % 5 == 3
        result = {"training_iteration": 1, "score": 0.0 if lost else 0.5, "loss": float("nan") if lost else 1.0}
        search.suggest(f"t{number}")
        search.on_trial_complete(f"t{number}", result | {"diverged": lost})
    assert [t.values for t in search.study.trials[:4]] == [[0.5, 1.0]] * 3 + [[0.0, float("inf")]]


def test_flags_and_refusals():
    _, both = parse(ARENA, ["--objectives", "score", "trainable_parameters", "--search", "nsga2"])
    assert both.objectives == BOTH
    assert both.rungs() == [both.rounds]
    with pytest.raises(BadInput, match=r"at random .* not all have 'lora.weight_decay'; use 'tpe'"):
        both.validate()
    one = parse(ARENA, ["--learner", "lora", "--objectives", "score", "trainable_parameters", "--search", "nsga2"])[1]
    one.validate()
    assert one.search == "nsga2"
    assert parse(ARENA, [])[1].objectives == ("score",)
    for wrong, said in (
        (("seconds",), "begin with 'score'"),
        (("score", "score"), "once"),
        (("score", "beauty"), "'beauty' is not known; choose of score, .*, loss, out_of_domain"),
    ):
        with pytest.raises(BadInput, match=said):
            replace(ARENA, objectives=wrong).validate()
