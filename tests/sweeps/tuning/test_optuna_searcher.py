"""The searcher, driven as Tune drives it, and read back with plain Optuna: how every trial ended, and resuming."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from search_spaces.space import Space
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings

X = Space({"x": FloatDistribution(0, 1)})
LEARNERS = ["a", "b"]
SPACE = (
    Space({"learner": CategoricalDistribution(LEARNERS)})
    | (X | Space({"y": FloatDistribution(0, 1)})).when(learner="a")
    | X.when(learner="b")
)
ROUNDS = 3
NAN, INF = float("nan"), float("inf")


def searcher(folder: Path, seed: int = 0, **options: Any) -> OptunaSearcher:
    settings = SearchSettings(SPACE, "s", seed=seed, rounds=ROUNDS, pairs=LEARNERS, **options)
    return OptunaSearcher(settings, f"sqlite:///{folder / 'optuna.db'}")


def suggested(search: OptunaSearcher, trial_id: str) -> TrialParams:
    config = search.suggest(trial_id)
    assert isinstance(config, dict)
    return config["params"]


def stored(folder: Path) -> list[FrozenTrial]:
    return optuna.load_study(study_name="s", storage=f"sqlite:///{folder / 'optuna.db'}").trials


def result(step: int, score: float, **more: Any) -> dict[str, Any]:
    return {"training_iteration": step, "score": score, **more}


ENDS: dict[str, tuple[list[float], dict[str, Any], tuple[str, TrialState, float | None, dict[int, float]]]] = {
    # results that went on, the call that ended it -> ended, state, value, intermediate values
    "finished": ([0.1, 0.9], {"result": result(3, 0.5)},
                 ("finished", TrialState.COMPLETE, 0.9, {1: 0.1, 2: 0.9, 3: 0.5})),
    "pruned at round 1": ([], {"result": result(1, 0.2)}, ("pruned", TrialState.PRUNED, 0.2, {1: 0.2})),
    "pruned at round 2": ([0.1], {"result": result(2, 0.2)}, ("pruned", TrialState.PRUNED, 0.2, {1: 0.1, 2: 0.2})),
    "NaN": ([0.1], {"result": result(2, NAN)}, ("diverged", TrialState.COMPLETE, 0.0, {1: 0.1})),
    "infinite": ([], {"result": result(1, INF)}, ("diverged", TrialState.COMPLETE, 0.0, {})),
    "flagged": ([0.4], {"result": result(2, 0.0, diverged=True)}, ("diverged", TrialState.COMPLETE, 0.0, {1: 0.4})),
    "NaN, then ended": ([0.4, NAN], {"result": result(3, 0.3)},
                        ("diverged", TrialState.COMPLETE, 0.0, {1: 0.4, 3: 0.3})),
    "not flagged": ([0.1, 0.2], {"result": result(3, 0.3, diverged=False)},
                    ("finished", TrialState.COMPLETE, 0.3, {1: 0.1, 2: 0.2, 3: 0.3})),
    "failed": ([0.1, 0.2], {"error": True}, ("failed", TrialState.FAIL, None, {1: 0.1, 2: 0.2})),
    "failed at once": ([], {"error": True}, ("failed", TrialState.FAIL, None, {})),
    "stopped before it started": ([], {}, ("failed", TrialState.FAIL, None, {})),
    "stopped without a score": ([], {"result": {"training_iteration": 1}}, ("failed", TrialState.FAIL, None, {})),
}  # fmt: skip


def test_other_programs_see_the_objective_by_its_name(tmp_path: Path) -> None:
    """As Optuna's dashboard reads it, while a trial runs."""
    search = searcher(tmp_path)
    suggested(search, "a")
    search.on_trial_result("a", result(1, 0.25))
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'optuna.db'}")
    assert study.metric_names == ["score"]
    assert [(one.state, one.intermediate_values) for one in study.trials] == [(TrialState.RUNNING, {1: 0.25})]


def test_learners_get_equally_many_trials(tmp_path: Path) -> None:
    """Also when one of them always scores better, and after a restart in the middle."""
    learners = []
    for half in range(2):
        search = searcher(tmp_path, shared=True, first=[TrialParams("b", {})])
        for number in range(10):
            learners.append(suggested(search, f"{half} {number}").learner)
            score = 0.9 if learners[-1] == "a" else 0.1
            search.on_trial_complete(f"{half} {number}", result(3, score + number / 1000))
    assert learners[:6] == ["b", "a", "a", "b", "a", "b"]
    assert learners.count("a") == learners.count("b") == 10


@pytest.mark.parametrize(("scores", "call", "expected"), ENDS.values(), ids=ENDS)
def test_optuna_is_told_how_a_trial_ended(tmp_path: Path, scores: list, call: dict, expected: tuple) -> None:
    search = searcher(tmp_path)
    params = suggested(search, "t1")
    for step, score in enumerate(scores, 1):
        search.on_trial_result("t1", result(step, score))
    search.on_trial_complete("t1", **call)

    (trial,) = stored(tmp_path)
    assert (trial.user_attrs["ended"], trial.state, trial.value, trial.intermediate_values) == expected
    assert trial.user_attrs["tune_trial_id"] == "t1"
    assert trial.params == params.flat(LEARNERS)
    if expected[0] == "diverged":
        bad = [i for i, score in enumerate(scores, 1) if not math.isfinite(score)]
        assert trial.user_attrs["diverged_round"] == (bad or [len(scores) + 1])[0]


def test_repeated_and_unknown_calls_change_nothing(tmp_path: Path) -> None:
    search = searcher(tmp_path)
    assert search.suggest("t1") == search.suggest("t1")
    search.on_trial_result("t1", result(1, 0.1))
    search.on_trial_result("t1", result(1, 0.7))  # a restored trial repeats a round
    search.on_trial_complete("t1", result(2, 0.2))
    before = stored(tmp_path)
    search.on_trial_result("t1", result(3, 0.9))
    search.on_trial_complete("t1", result(3, 0.9))
    search.on_trial_complete("t1", error=True)
    search.on_trial_result("nobody", result(1, 0.1))
    search.on_trial_complete("nobody", result(1, 0.1))
    assert stored(tmp_path) == before
    assert before[0].intermediate_values == {1: 0.1, 2: 0.2}


@pytest.mark.parametrize(("sampler", "trials"), [("tpe", 12), ("random", 3)])  # TPE's first 10 are random
def test_the_same_seed_gives_the_same_sequential_sweep(tmp_path: Path, sampler: str, trials: int) -> None:
    def sweep(name: str, seed: int, trials: int) -> list[TrialParams]:
        folder = tmp_path / name
        folder.mkdir()
        search = searcher(folder, seed, sampler=sampler)
        suggestions = []
        for i in range(trials):
            suggestions.append(suggested(search, f"t{i}"))
            search.on_trial_complete(f"t{i}", result(ROUNDS, suggestions[-1].fields["x"]))
        return suggestions

    first = sweep("first", 0, trials)
    assert first == sweep("second", 0, trials)
    assert first[0] != sweep("third", 1, 1)[0]
    assert all(SPACE.contains(params.flat(LEARNERS)) for params in first)


def test_enqueued_parameters_come_first_and_only_in_a_new_study(tmp_path: Path) -> None:
    defaults = [TrialParams("b", {"x": 0.25}), TrialParams("a", {"x": 0.5, "y": 0.75}), TrialParams("a", {"x": 0.125})]
    search = searcher(tmp_path, first=defaults)
    assert [suggested(search, "t0"), suggested(search, "t1")] == defaults[:2]
    assert suggested(search, "t2").fields["x"] == 0.125
    again = searcher(tmp_path, first=defaults)
    assert suggested(again, "t3") not in defaults


def test_a_killed_driver_is_resumed_under_the_same_numbers(tmp_path: Path) -> None:
    dead = searcher(tmp_path, first=[TrialParams("b", {"x": 0.25})])
    for trial_id in ("t0", "t1", "t2"):
        dead.suggest(trial_id)
    for trial_id in ("t0", "t1"):
        dead.on_trial_result(trial_id, result(1, 0.1))
    dead.save(str(tmp_path / "state"))
    dead.on_trial_complete("t0", result(ROUNDS, 0.9))  # after the snapshot: Tune believes that it runs
    dead.on_trial_result("t2", result(1, NAN))
    lost = dead.suggest("t3")  # after the snapshot: Tune does not know it

    search = searcher(tmp_path)
    search.restore(str(tmp_path / "state"))
    for trial_id in ("t0", "t1", "t2"):  # what a restored Tune reports
        search.on_trial_result(trial_id, result(1, 0.1))
        search.on_trial_complete(trial_id, result(2, 0.2))
    assert search.suggest("t4") == lost
    new = search.suggest("t5")
    assert new != lost

    trials = stored(tmp_path)
    assert [(t.number, t.user_attrs["tune_trial_id"], t.user_attrs.get("ended")) for t in trials] == [
        (0, "t0", "finished"),
        (1, "t1", "pruned"),
        (2, "t2", "pruned"),  # the round that diverged was run again, as the leaderboard says, too
        (3, "t3", "lost"),
        (4, "t4", None),
        (5, "t5", None),
    ]
    assert (trials[0].value, trials[1].intermediate_values) == (0.9, {1: 0.1, 2: 0.2})


def test_a_resumed_sampler_does_not_repeat_itself(tmp_path: Path) -> None:
    first = searcher(tmp_path)
    old = [first.suggest(f"t{i}") for i in range(4)]
    first.save(str(tmp_path / "state"))
    second = searcher(tmp_path)
    second.restore(str(tmp_path / "state"))
    assert not [params for i in range(4) if (params := second.suggest(f"u{i}")) in old]


def test_settle_leaves_nothing_running_and_tries_again(tmp_path: Path) -> None:
    search = searcher(tmp_path)
    for trial_id in ("t0", "t1"):
        search.suggest(trial_id)
    search.on_trial_result("t1", result(1, 0.3))
    search.settle(alive=["t1"])
    assert [t.state for t in stored(tmp_path)] == [TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]
    search.settle()
    assert [t.state for t in stored(tmp_path)] == [TrialState.FAIL] * 2 + [TrialState.WAITING] * 2
    assert stored(tmp_path)[1].intermediate_values == {1: 0.3}


def test_a_searcher_travels_without_its_database(tmp_path: Path) -> None:
    search = searcher(tmp_path)
    search.suggest("t0")
    pickle.loads(pickle.dumps(search)).on_trial_complete("t0", result(ROUNDS, 0.5))
    assert stored(tmp_path)[0].value == 0.5
