"""The sampler learns from each pair's own trials, from pruned ones, and along ordered axes."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from sweeps.tuning.sampler import SamplerName, estimates, ordered, sampler_of

X = FloatDistribution(0, 1)
LEARNERS = CategoricalDistribution(("a", "b"))


def study(kind: SamplerName = "tpe", directions: tuple[str, ...] = ("maximize",)) -> optuna.Study:
    return optuna.create_study(directions=list(directions), sampler=sampler_of(kind, seed=0))


def add(searched: optuna.Study, params: dict, axes: dict[str, BaseDistribution], rounds: list[float], **more) -> None:
    """Add a trial that ran to its end, with these scores after its rounds."""
    seen = dict(enumerate(rounds, 1))
    more = {"value": rounds[-1]} | more
    searched.add_trial(create_trial(params=params, distributions=axes, intermediate_values=seen, **more))


def test_axes_are_drawn_together() -> None:
    """The good trials lie where x equals y. Drawn each by itself, neither axis would show that."""
    searched, axes = study(), {"x": X, "y": X}
    rng = np.random.default_rng(0)
    for _ in range(150):
        x, y = rng.uniform(size=2)
        add(searched, {"x": x, "y": y}, axes, [1 - abs(x - y)])
    drawn = []
    for _ in range(20):
        trial = searched.ask()
        drawn.append(abs(trial.suggest_float("x", 0, 1) - trial.suggest_float("y", 0, 1)))
        searched.tell(trial, state=TrialState.FAIL)
    assert np.median(drawn) < 0.12  # 0.29 at random


def test_trials_at_once_are_not_alike() -> None:
    """Without `constant_liar`, trials that begin together crowd within a tenth around what is best so far."""
    searched = study()
    for number in range(20):
        add(searched, {"x": number / 19}, {"x": X}, [-abs(number / 19 - 0.5)])
    drawn = [searched.ask().suggest_float("x", 0, 1) for _ in range(12)]
    assert max(drawn) - min(drawn) > 0.3


def test_a_pruned_trial_counts_as_what_it_would_have_reached() -> None:
    """The best trials were pruned at round 1 of 3, beside two poor ones that finished and three that diverged."""
    searched, axes = study(), {"x": X}
    add(searched, {"x": 0.1}, axes, [0.2, 0.3, 0.4])
    add(searched, {"x": 0.9}, axes, [0.1, 0.2, 0.3])
    for x in (0.85, 0.9, 0.95):
        add(searched, {"x": x}, axes, [0.0], constraints={"diverged": 1.0})
    for x in np.linspace(0.0, 0.3, 15):
        add(searched, {"x": float(x)}, axes, [0.15], value=None, state=TrialState.PRUNED)
    for x in (0.52, 0.54, 0.56):
        add(searched, {"x": x}, axes, [0.6], value=None, state=TrialState.PRUNED)
    drawn = [searched.ask().suggest_float("x", 0, 1) for _ in range(10)]
    assert np.mean([0.4 < x < 0.7 for x in drawn]) > 0.5


def test_the_estimate_adds_what_later_rounds_brought_others() -> None:
    histories = [{1: 0.2, 2: 0.4, 3: 0.5}, {1: 0.3, 2: 0.4}, {1: 0.1}]
    # Round 2 changed 0.2 and 0.1, round 3 changed 0.1.
    assert estimates(histories) == pytest.approx({1: 0.25, 2: 0.1, 3: 0.0})
    assert estimates([{1: 0.5}, {}]) == {1: 0.0}
    assert estimates([]) == {}


def test_each_pair_learns_from_its_own_trials() -> None:
    """Learner a is better whatever its x; the search for b's best x goes on all the same."""
    searched = study()
    for number in range(40):
        x = number % 20 / 19
        for learner, score in (("a", 0.9), ("b", 0.5 - abs(x - 0.8))):
            axes = {"learner": LEARNERS, f"{learner}.x": X}
            add(searched, {"learner": learner, f"{learner}.x": x}, axes, [score])
    drawn = []
    for _ in range(10):
        searched.enqueue_trial({"learner": "b"})
        trial = searched.ask()
        assert trial.suggest_categorical("learner", LEARNERS.choices) == "b"
        drawn.append(trial.suggest_float("b.x", 0, 1))
        searched.tell(trial, state=TrialState.FAIL)
    assert np.median(np.abs(np.array(drawn) - 0.8)) < 0.12  # 0.34 at random


def test_numbers_in_a_list_are_an_order() -> None:
    """32 was never tried, but lies between the two best; as names, it would be no better than 4."""
    ranks = (4, 8, 16, 32, 64)
    searched, axes = study(), {"r": CategoricalDistribution(ranks)}
    for rank, score in ((4, 0.1), (8, 0.3), (16, 0.8), (64, 0.8)):
        for _ in range(5):
            add(searched, {"r": rank}, axes, [score])
    drawn = []
    for _ in range(30):
        trial = searched.ask()
        drawn.append(trial.suggest_categorical("r", ranks))
        searched.tell(trial, state=TrialState.FAIL)
    assert {type(rank) for rank in drawn} == {int}
    assert drawn.count(32) > drawn.count(4) + drawn.count(8)


@pytest.mark.parametrize(
    ("choices", "places"),
    [((4, 8, 16), 3), ((0.0, 0.1), 2), (("a", "b"), 0), ((8, 4), 0), ((False, True), 0), ((None, 1), 0), ((4,), 0)],
)
def test_which_lists_are_orders(choices: tuple, places: int) -> None:
    expected = IntDistribution(0, places - 1) if places else None
    assert ordered(CategoricalDistribution(choices)) == expected


def test_nsga2_breeds_after_ten_trials() -> None:
    searched = study("nsga2", ("maximize", "minimize"))
    for _ in range(21):
        trial = searched.ask()
        x = trial.suggest_float("x", 0, 1)
        searched.tell(trial, (x, x))
    assert [trial.system_attrs["NSGAIISampler:generation"] for trial in searched.trials[::10]] == [0, 1, 2]
