"""Plan where the next minutes of finalists go: which get another seed, and which are asked more questions.

A minute goes where it most reduces the uncertainty of what is undecided: between the leader and those that cannot be
told apart from it, weighted towards the nearest (as "optimal computing budget allocation" does: Chen et al. 2000,
Discrete Event Dynamic Systems 10:251). Shapes: S seeds, N questions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from sweeps.results.uncertainty import (
    VarianceEstimate,
    item_error,
    residual_variance,
    seed_errors,
    shared_freedom,
    weight_of_seeds,
)

PRIOR_SEED, PRIOR_FREEDOM = 0.02, 4  # standard deviation of a score from seed to seed, until it is measured
PLAINLY = 2.0  # standard errors below the leader, after one seed each
MORE = 500  # questions that are added at a time
MOST_QUESTIONS = 2000  # of a finalist

Sizes = dict[str, tuple[int, int]]  # by name: seeds, questions


@dataclass(frozen=True)
class Costs:
    """Seconds that one training adds, and asking one question, by name; the most seeds by name, and the most questions.

    A finalist that may have one seed only is asked no further questions either.
    """

    train: Mapping[str, float]
    ask: Mapping[str, float]
    most_seeds: Mapping[str, int]
    most_questions: int


@dataclass
class Forecast:
    """What the scores known so far say about the variance of each difference from the leader, for any sizes."""

    scores: Mapping[str, np.ndarray]
    leader: str
    undecided: Collection[str]
    untrained: Collection[str] = ()  # configurations without a random seed
    _seed: dict[str, float] = field(init=False)
    _items: dict[str, float] = field(init=False)
    _shared: float = field(init=False)  # degrees of freedom of a variance between seeds that come from other finalists

    def __post_init__(self) -> None:
        errors = seed_errors(self.scores, self.untrained)
        self._seed = {}
        for name, one in self.scores.items():
            if name in self.untrained:
                self._seed[name] = 0.0
                continue
            freedom = min(errors[name].freedom, 100.0) if len(one) > 1 or errors[name].variance else 0.0
            measured = max(0.0, errors[name].variance * len(one) - residual_variance(one) / one.shape[1])
            total = freedom + PRIOR_FREEDOM
            self._seed[name] = (freedom * measured + PRIOR_FREEDOM * PRIOR_SEED**2) / total
        self._shared = shared_freedom(self.scores, self.untrained)
        self._items = {name: self._item_part(name) for name in self.undecided}

    def _item_part(self, name: str) -> float:
        """Return the variance of the difference that one question with one seed each would have."""
        one, other = self.scores[self.leader], self.scores[name]
        asked = min(one.shape[1], other.shape[1])
        answers = 1 / (1 / len(one) + 1 / len(other))
        return item_error(one[:, :asked].mean(0) - other[:, :asked].mean(0)).variance * asked * answers

    def variance(self, name: str, sizes: Sizes) -> float:
        """Return the variance of the difference of the leader from `name` with such sizes."""
        (seeds, asked), (other_seeds, other_asked) = sizes[self.leader], sizes[name]
        trained = self._seed[self.leader] / seeds + self._seed[name] / other_seeds
        return trained + self._items[name] * (1 / seeds + 1 / other_seeds) / min(asked, other_asked)

    def gap(self, name: str, sizes: Sizes) -> float:
        """Return how many standard errors apart they would be, if the difference seen so far is the true one."""
        one, other = self.scores[self.leader], self.scores[name]
        asked = min(one.shape[1], other.shape[1])
        return float(one[:, :asked].mean() - other[:, :asked].mean()) / math.sqrt(self.variance(name, sizes))

    def freedom(self, name: str, sizes: Sizes) -> float:
        """Return the degrees of freedom that the variance of this difference would have with such sizes, if variances
        between seeds stay as alike as they are (Satterthwaite 1946, see `combined_error`)."""
        pair, asked = (self.leader, name), min(sizes[self.leader][1], sizes[name][1])
        total = sum(seeds - 1 for one, (seeds, _) in sizes.items() if one not in self.untrained)
        answers = self._items[name] * sum(1 / sizes[one][0] for one in pair) / asked
        trained = []
        for one in (one for one in pair if one not in self.untrained):
            seeds = sizes[one][0]
            if freedom := min(seeds - 1 + self._shared, total):
                variance = (self._seed[one] + residual_variance(self.scores[one]) / asked) / seeds
                trained.append(VarianceEstimate(variance, freedom, total))
        weight = answers**2 / max(1, asked - 1) + weight_of_seeds(trained)
        return max(1.0, self.variance(name, sizes) ** 2 / weight) if weight else math.inf

    def smallest_gap(self, sizes: Sizes) -> float:
        """Return the smallest gap of an undecided one."""
        return min(self.gap(name, sizes) for name in self.undecided)


def sizes_of(scores: Mapping[str, np.ndarray]) -> Sizes:
    return {name: (len(one), one.shape[1]) for name, one in scores.items()}


def second_seed(scores: Mapping[str, np.ndarray], costs: Costs, untrained: Collection[str] = ()) -> Sizes:
    """Give a second seed to the leader, and to all that are not plainly worse after their first one."""
    trained = [name for name in scores if name not in untrained]
    leader = max(trained, key=lambda name: scores[name].mean())
    forecast = Forecast(scores, leader, [name for name in trained if name != leader], untrained)
    now = sizes_of(scores)
    near = [name for name in forecast.undecided if costs.most_seeds[name] > 1 and forecast.gap(name, now) < PLAINLY]
    return now | {name: (2, now[name][1]) for name in [leader, *near]}


def spend(forecast: Forecast, costs: Costs, budget: float) -> tuple[Sizes, float]:
    """Spend up to `budget` seconds; return the sizes then, and the seconds that the additions cost."""
    last = sizes_of(forecast.scores), 0.0
    for bought in purchases(forecast, costs, budget):
        last = bought
    return last


def purchases(forecast: Forecast, costs: Costs, budget: float) -> Iterator[tuple[Sizes, float]]:
    """Yield the sizes after each addition, and the seconds that all of them cost so far, up to `budget` seconds."""
    sizes, used = sizes_of(forecast.scores), 0.0
    while True:
        options = [(more, price(sizes, more, costs)) for more in _options(forecast, sizes, costs)]
        options = [(more, cost) for more, cost in options if 0 < cost <= budget - used]
        if not options:
            return
        sizes, cost = max(options, key=lambda option: _worth(forecast, sizes, option[0]) / option[1])
        used += cost
        yield sizes, used


def price(sizes: Sizes, more: Sizes, costs: Costs) -> float:
    """Return the seconds that it takes to get from some sizes to larger ones."""
    seconds = 0.0
    for name, (seeds, asked) in more.items():
        had, before = sizes[name]
        seconds += (seeds - had) * costs.train[name] + (seeds * asked - had * before) * costs.ask[name]
    return seconds


def _options(forecast: Forecast, sizes: Sizes, costs: Costs) -> list[Sizes]:
    """One more seed for the leader or an undecided one; or more questions for the leader and an undecided one."""
    found = []
    for name in [forecast.leader, *forecast.undecided]:
        seeds, asked = sizes[name]
        if seeds < costs.most_seeds[name] and name not in forecast.untrained:
            found.append(sizes | {name: (seeds + 1, asked)})
    for name in forecast.undecided:
        if costs.most_seeds[name] == 1 and name not in forecast.untrained:
            continue
        fewest = min(sizes[forecast.leader][1], sizes[name][1])
        goal = min(costs.most_questions, fewest + MORE)
        both = (forecast.leader, name)
        found.append(sizes | {each: (sizes[each][0], max(goal, sizes[each][1])) for each in both})
    return found


def _worth(forecast: Forecast, sizes: Sizes, more: Sizes) -> float:
    """Return by which share the variances of undecided differences fall, weighted towards the smallest gaps."""
    worth = 0.0
    for name in forecast.undecided:
        before = forecast.variance(name, sizes)
        worth += math.exp(-max(0.0, forecast.gap(name, sizes))) * (1 - forecast.variance(name, more) / before)
    return worth
