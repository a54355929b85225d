"""All that is known of a sweep's finalists: their scores, how they came, and what further ones would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sweeps.results.allocation import Costs
from sweeps.results.comparison import LEVEL, Comparison, Look, compare
from sweeps.results.decision import Progress
from sweeps.results.records import Final, ranked, untouched_name
from sweeps.results.statistics import Interval
from sweeps.results.uncertainty import VarianceEstimate, intervals, seed_spread


@dataclass(frozen=True)
class Spending:
    """The seconds that finalists took, those that they may take in all, and what more of them would cost."""

    seconds: float
    budget: float
    costs: Costs


@dataclass(frozen=True)
class Confirmation:
    """Finalists, the best first, on the questions of the test split.

    `clusters` has the cluster of each question, empty where all are independent; `trivial` the scores of trivial
    strategies; `lost` the configurations without a score, and why; `looks` the comparisons so far, empty in runs of
    versions that trained every finalist with three seeds; `parameters` those of each base, by its label, in a sweep of
    several. `independent`: each question had a model of its own, so the luck of seeds is part of that of questions.
    `look`: which look at the test split this is; if it asks `again` what a look before it asked, `spent` is the error
    rate that such looks have spent, and this one has what is left.
    """

    finals: Sequence[Final] = ()
    clusters: Sequence[str] = ()
    trivial: Mapping[str, float] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    looks: Sequence[Look] = ()
    spending: Spending | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)
    independent: bool = False
    look: int = 1
    spent: float = 0.0
    again: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "finals", ranked(self.finals))

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """Scores (seeds, questions) by name."""
        return {one.name: one.scores for one in self.finals}

    @property
    def asked(self) -> int:
        """The number of questions that the best was asked."""
        return self.finals[0].scores.shape[1]

    @property
    def untouched(self) -> list[Final]:
        """What was asked before training, the best first: one for each base, and for each learner without a base."""
        return [one for one in self.finals if one.is_untouched]

    def untouched_of(self, base: str) -> Final | None:
        """Return the base with this label before training, if it was asked."""
        return next((one for one in self.untouched if one.name == untouched_name(base)), None)

    def before(self, trained: Final) -> Final | None:
        """Return what a finalist was before its training, if that was asked: its base, or its learner without one."""
        if trained.before is None:
            return self.untouched_of(trained.base)
        return next((one for one in self.untouched if one.name == trained.before), None)

    @property
    def best_trained(self) -> Final | None:
        return next((one for one in self.finals if not one.is_untouched), None)

    @property
    def untouched_of_best(self) -> Final | None:
        """What the best trained finalist was before its training, if that was asked."""
        return self.before(self.best_trained) if self.best_trained else None

    @property
    def several_bases(self) -> bool:
        return any(one.base for one in self.finals)

    @property
    def level(self) -> float:
        """The error rate that this look has."""
        return max(0.0, LEVEL - self.spent)

    @property
    def rate_spent(self) -> float:
        """The error rate that its comparisons have spent; all of it in runs of versions that knew no looks."""
        all_of_it = LEVEL if len(self.finals) > 1 else 0.0
        return max((rate for one in self.looks for rate in (one.rate, one.base_rate)), default=all_of_it)

    @property
    def untrained(self) -> list[str]:
        """The names of those without a random seed."""
        return [one.name for one in self.untouched]

    @property
    def without_seeds(self) -> list[str]:
        """The names of those whose scores differ from seed to seed only as they do from question to question."""
        return [one.name for one in self.finals] if self.independent else self.untrained

    def comparisons(self, reference: str | None = None) -> list[Comparison]:
        """Compare the best, or the reference, with each of the others."""
        return compare(self.scores, self.clusters, self.without_seeds, reference, self.looks)

    def bounds(self) -> dict[str, Interval]:
        """Return 95 % intervals of the scores, by name, over other questions and other seeds."""
        return intervals(self.scores, self.clusters, self.without_seeds)

    def spread(self) -> VarianceEstimate:
        """Return the variance of a configuration's score from seed to seed."""
        return seed_spread(self.scores, self.untrained)

    def progress(self) -> Progress:
        """Return what the plan of the next stage needs."""
        seconds = self.spending.seconds if self.spending else 0.0
        return Progress(self.scores, self.looks, seconds, self.clusters, self.without_seeds, self.independent)


def beside_answers(known: Confirmation) -> dict[str, Any]:
    """Return as plain values what the table of answers does not hold. `confirmation_from` reads it back."""
    plain: dict[str, Any] = {"trivial": dict(known.trivial), "lost": dict(known.lost)}
    plain["states"] = {one.name: list(one.states) for one in known.finals if one.states}
    plain["looks"] = [
        {"rate": look.rate, "base_rate": look.base_rate, "sizes": {name: [*size] for name, size in look.sizes.items()}}
        for look in known.looks
    ]
    if known.spending:
        plain["spending"] = asdict(known.spending)
    if known.parameters:
        plain["parameters"] = dict(known.parameters)
    if known.independent:
        plain["independent"] = True
    if known.look > 1:
        plain |= {"look": known.look, "spent": known.spent, "again": known.again}
    return plain


def confirmation_from(plain: Mapping[str, Any], finals: Sequence[Final], clusters: Sequence[str]) -> Confirmation:
    """Read what `beside_answers` wrote; runs of earlier versions have neither looks nor costs."""
    looks = tuple(
        Look(one["rate"], one["base_rate"], {name: (seeds, asked) for name, (seeds, asked) in one["sizes"].items()})
        for one in plain.get("looks", ())
    )
    spending = plain.get("spending")
    return Confirmation(
        finals,
        clusters,
        plain.get("trivial", {}),
        plain.get("lost", {}),
        looks,
        Spending(**(spending | {"costs": Costs(**spending["costs"])})) if spending else None,
        plain.get("parameters", {}),
        plain.get("independent", False),
        plain.get("look", 1),
        plain.get("spent", 0.0),
        plain.get("again", False),
    )
