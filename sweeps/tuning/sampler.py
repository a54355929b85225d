"""Optuna's samplers with the settings of a sweep, and what TPE is shown of a study."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from search_spaces import axis
from sweeps.results.trial_params import LEARNER
from sweeps.tuning.earlier_trials import EarlierTrials
from sweeps.tuning.prior import around, share_around_default

SamplerName = Literal["tpe", "random", "nsga2"]
MOST_SHOWN, BEST_SHOWN = 80, 16  # trials of a pair that TPE sees, and how many of them are its best
POPULATION = 10  # of NSGA-II; its default of 50 is more than most sweeps have trials


def sampler_of(
    kind: SamplerName, seed: int, defaults: Mapping[str, Any] | None = None, earlier: EarlierTrials | None = None
) -> BaseSampler:
    """Make the sampler for `Sweep.search`. TPE draws around the `defaults` of axes at first, and sees the `earlier`
    trials of another sweep."""
    if kind == "random":
        return RandomSampler(seed=seed)
    if kind == "nsga2":
        return NSGAIISampler(population_size=POPULATION, seed=seed)
    return PairwiseTPE(seed, defaults or {}, earlier)


class PairwiseTPE(BaseSampler):
    """TPE for each pair of a sweep by itself, on what is known of its trials.

    A plain TPE would compare the pairs' trials with each other: where one learner is ahead, the good set holds none of
    the others', and their shares of the sweep would be random search. It would also prefer any finished trial to every
    pruned one, and treat ranks of 4, 8 and 16 as names. So each suggestion comes from a study in memory (`known`) with
    the trials of one pair, in which a pruned trial has an estimate of its last round's score (`estimates`), and an axis
    of numbers is their order (`ordered`). Some of the trials are drawn around the defaults instead (`prior.py`).
    """

    def __init__(self, seed: int, defaults: Mapping[str, Any], earlier: EarlierTrials | None = None) -> None:
        self._rng, self._defaults, self._earlier = np.random.default_rng(seed), defaults, earlier
        self._number = -1  # of the trial that is being drawn
        self._shadow: Trial | None = None  # its likeness in the study in memory
        self._around_default = False
        self._likenesses: dict[int, Likeness] = {}  # of trials, by their numbers

    def reseed_rng(self) -> None:
        self._rng = np.random.default_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}  # the pair is not known yet

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if param_name == LEARNER:
            return self._rng.choice(list(param_distribution.choices)).item()  # type: ignore[attr-defined]
        if trial.number != self._number:
            sampler = tpe(int(self._rng.integers(2**31)))
            shown = known(study, trial, self._likenesses)
            self._around_default = self._rng.random() < share_around_default(len(shown))
            if self._earlier is not None:
                shown += beside(shown, self._earlier, trial.params.get(LEARNER))
            storage = ShownTrials(shown)
            likeness = optuna.create_study(storage=storage, directions=study.directions, sampler=sampler)
            self._number, self._shadow = trial.number, likeness.ask()
        assert isinstance(self._shadow, Trial)
        order = ordered(param_distribution)
        if self._around_default and param_name in self._defaults:
            return around(self._defaults[param_name], param_distribution, order, self._rng)
        if order is None:
            return axis.suggest(self._shadow, param_name, param_distribution)
        return param_distribution.choices[axis.suggest(self._shadow, param_name, order)]  # type: ignore[attr-defined]


def tpe(seed: int) -> TPESampler:
    """Return a TPE that draws all axes together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group` and the two beside it
        # `group`: axes with conditions are drawn together with those of their branch. `constant_liar`: trials that run
        # count as bad ones, so that several at once are not alike.
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


class ShownTrials(InMemoryStorage):
    """Trials that a sampler reads, before those that it asks for. Optuna's own storage would copy each of them, which
    takes longer than all else in a suggestion."""

    def __init__(self, shown: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._shown = shown
        for place, one in enumerate(shown):
            one.number = place - len(shown)  # the first one that is asked for is number 0

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        shown = [one for one in self._shown if states is None or one.state in states]
        return [*shown, *super().get_all_trials(study_id, deepcopy, states)]


def known(study: optuna.Study, trial: FrozenTrial, likenesses: dict[int, Likeness]) -> list[FrozenTrial]:
    """Return the other trials of a trial's pair, as a sampler should see them. `likenesses` keeps what stays.

    Failed trials are left out. A trial that was pruned, is paused or still runs is complete, with its estimate, once it
    has a round; a sweep of several objectives reports none.
    """
    pair = trial.params.get(LEARNER)
    own = [one for one in study.get_trials(deepcopy=False) if one.params.get(LEARNER) == pair]
    own = [one for one in own if one.number != trial.number and one.params]
    scores = estimates([one.intermediate_values for one in own if _is_feasible(one)])
    seen: list[tuple[FrozenTrial, TrialState, Sequence[float] | None]] = []
    for one in own:
        if one.state in (TrialState.PRUNED, TrialState.RUNNING) and one.intermediate_values:
            last = max(one.intermediate_values)
            seen.append((one, TrialState.COMPLETE, [one.intermediate_values[last] + scores[last]]))
        elif one.state in (TrialState.COMPLETE, TrialState.RUNNING):
            seen.append((one, one.state, one.values))
    likenesses |= {one.number: Likeness.of(one) for one, *_ in seen if one.number not in likenesses}
    told = _telling(seen) if len(study.directions) == 1 else seen
    return [_shown(one, likenesses[one.number], state, values) for one, state, values in told]


def _telling(
    seen: Sequence[tuple[FrozenTrial, TrialState, Sequence[float] | None]],
) -> Sequence[tuple[FrozenTrial, TrialState, Sequence[float] | None]]:
    """Return the best trials and the latest, in their order: a suggestion takes as long as there are trials, and TPE
    counts the earliest little anyway."""
    if len(seen) <= MOST_SHOWN:
        return seen
    value = [-math.inf if not one[2] or not _is_feasible(one[0]) else one[2][0] for one in seen]
    best = {*sorted(range(len(seen)), key=lambda place: -value[place])[:BEST_SHOWN]}
    latest = [place for place in range(len(seen)) if place not in best][BEST_SHOWN - MOST_SHOWN :]
    return [seen[place] for place in sorted([*best, *latest])]


def beside(shown: Sequence[FrozenTrial], earlier: EarlierTrials, pair: str | None) -> list[FrozenTrial]:
    """Return the trials of an earlier sweep to show with those of `known`, which count more, the more there are."""
    new = [one for one in shown if one.state == TrialState.COMPLETE]
    scores = [one.value for one in new if _is_feasible(one) and one.value is not None]
    return [_shown(one, Likeness.of(one), TrialState.COMPLETE, [score]) for one, score in earlier.beside(pair, scores)]


def estimates(histories: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return, by round, how much the score still changes until the last round of the longest history.

    `histories`: the score of each round, by trial. The change of a round is the mean over the trials that have it and
    the round before. A round from which no trial went on changes nothing.
    """
    steps: dict[int, list[float]] = defaultdict(list)
    for history in histories:
        for round_ in history:
            if round_ - 1 in history:
                steps[round_].append(history[round_] - history[round_ - 1])
    change, left = 0.0, {}
    for round_ in range(max((max(one, default=0) for one in histories), default=0), 0, -1):
        left[round_] = change
        change += float(np.mean(steps[round_])) if steps[round_] else 0.0
    return left


def ordered(distribution: BaseDistribution) -> IntDistribution | None:
    """Return the places of a categorical axis whose choices are rising numbers; None for any other axis."""
    if not isinstance(distribution, CategoricalDistribution) or len(distribution.choices) < 2:
        return None
    numbers = [one for one in distribution.choices if isinstance(one, int | float) and not isinstance(one, bool)]
    rises = len(numbers) == len(distribution.choices) and all(a < b for a, b in pairwise(numbers))
    return IntDistribution(0, len(numbers) - 1) if rises else None


class Likeness(NamedTuple):
    """A trial's axes as TPE sees them: numbers of categorical axes are places in their order."""

    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]

    @classmethod
    def of(cls, trial: FrozenTrial) -> Likeness:
        found = cls({}, {})
        for name, distribution in trial.distributions.items():
            if name == LEARNER:
                continue
            order, value = ordered(distribution), trial.params[name]
            found.distributions[name] = distribution if order is None else order
            found.params[name] = value if order is None else distribution.choices.index(value)  # type: ignore[attr-defined]
        return found


def _shown(trial: FrozenTrial, likeness: Likeness, state: TrialState, values: Sequence[float] | None) -> FrozenTrial:
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=state,
        value=None,
        values=None if state == TrialState.RUNNING else values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=likeness.params,
        distributions=likeness.distributions,
        user_attrs={},
        system_attrs=trial.system_attrs,  # its constraints among them
        intermediate_values={},
    )


def _is_feasible(trial: FrozenTrial) -> bool:
    return all(value <= 0 for value in trial.constraints.values())
