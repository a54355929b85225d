"""A new sweep from an earlier one: its space, narrowed to where its good trials were, and its best trials first.

The best quarter of a learner's trials counts as good. Two exact tests narrow an axis. If good trials
keep away from one end of the range (one-sided Kolmogorov-Smirnov test against the others), that end is cut off up to
the value where the distributions differ most, less a margin. If a choice has fewer good trials than its share
(hypergeometric), it is dropped. The level of the tests is 0.1,
so five trials cut nothing. Values of the first trials always stay. An axis without influence keeps its range, as it may
have some on the new base. All trials inside the narrowed space are observations of the new search, by their ranks
(`tuning/earlier_trials.py`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats import hypergeom, ks_2samp

from search_spaces.axis import describe, inside, same
from search_spaces.models import fit
from search_spaces.space import Space
from sweeps.results.leaderboard import shown
from sweeps.results.records import TrialRecord, by_score
from sweeps.results.run_folder import Run
from sweeps.results.trial_params import Observation, TrialParams, in_turns
from sweeps.spec.base_labels import plain_base
from sweeps.spec.deserialize import rebuild
from sweeps.spec.sweep import Sweep
from trainables.bad_input import BadInput
from trainables.options import limits

FIRST = 4  # a quarter of the new trials, divided among the learners, repeat the best of the earlier sweep
GOOD, LEAST_GOOD = 4, 3  # the best quarter of the trials counts as good, and at least three
LUCK = 0.1  # not 0.05: a needless cut keeps the good values, a missing one wastes trials
MARGIN = 1 / 8  # of the range, kept beside the good values: a factor of 1.8 if a range spans two decades


def like(sweep: Sweep, run: Run) -> tuple[Sweep, list[TrialParams]]:
    """Return `sweep` with the narrowed spaces of the sweep in `run`, fitted to its bases, and its trials as
    observations; and parameters to try first.

    The parameters are the best of each pair, finalists before others, pairs in turn. A pair takes them from the same
    learner on the same base, or else on the base where that learner was best. A learner that the earlier sweep did not
    have keeps its space, and an axis that `sweep` has fixed stays fixed. Raises BadInput if the earlier sweep has no
    trial with a score, or another task, SpaceError if `fit` leaves nothing of an axis.
    """
    earlier = _earlier(sweep, run)
    count, first, observations = max(1, sweep.num_samples // (FIRST * len(sweep.pairs))), [], list[Observation]()
    spaces = {pair.name: sweep.space_of(pair) for pair in sweep.pairs}
    for pair in (pair for pair in sweep.pairs if pair.name in earlier):
        name, before = pair.name, earlier[pair.name]
        fixed = {axis: values for axis, values in spaces[name].axes.items() if values.single()}
        space = fit(before.space, limits(pair.learner), pair.base)
        space = Space({**space.axes, **fixed}, space.conditions)
        trials = [one for one in run.records if one.pair == before.name]
        best = best_fields(space, trials, [one.trial_id for one in run.finals if one.trial_id])[:count]
        spaces[name] = _narrowed(space, trials, best)
        observations += observed(name, spaces[name], trials)
        first.append([TrialParams(name, one) for one in best if spaces[name].contains(one)])
    return dataclasses.replace(sweep, space=spaces, observations=tuple(observations)), in_turns(first)


def in_words(asked: Sweep, sweep: Sweep, first: Sequence[TrialParams], run: Run) -> list[str]:
    """Describe the result of `like`: `asked` is the sweep before it, `sweep` and `first` are its result."""
    lines = [f"like {run.folder}: its best {len(first)} configurations are tried first"]
    earlier = _earlier(sweep, run)
    for pair in sweep.pairs:
        name = pair.name
        if name not in earlier:
            lines.append(f"{name}: not in that sweep, its space is the script's")
            continue
        was, now = earlier[name].space, sweep.space_of(pair)
        fitted = fit(was, limits(pair.learner), pair.base)
        if name != earlier[name].name:
            lines.append(f"{name}: from {earlier[name].name}")
        kept = []
        for axis, values in now.axes.items():
            label = f"{name}.{axis}" if len(sweep.pairs) > 1 else axis
            if values.single() and values == asked.space_of(pair).axes.get(axis):
                lines.append(f"{label}: {_range(values)} (fixed)")
            elif values != was.axes[axis]:
                why = "suits the base" if values == fitted.axes[axis] else "mattered"
                lines.append(f"{label}: {_range(was.axes[axis])} -> {_range(values)} ({why})")
            elif not values.single():
                kept.append(axis)
        if kept:
            lines.append(f"{name}: whole range kept, as good trials were everywhere: {', '.join(kept)}")
    if sweep.search == "tpe" and len(sweep.objectives) == 1 and sweep.observations:
        lines.append(f"{len(sweep.observations)} trials of that sweep guide the search until it has enough of its own")
    return lines


@dataclasses.dataclass(frozen=True)
class EarlierPair:
    """A pair of the earlier sweep: its name there, and its space."""

    name: str
    space: Space


def _earlier(sweep: Sweep, run: Run) -> dict[str, EarlierPair]:
    """Return, by the pairs of `sweep`, those of the earlier sweep from which they start. Raise BadInput if there are
    none with a score."""
    before = rebuild(run.facts, remote_code=True)  # its base is not loaded
    old, new = before.tasks()[0].name, sweep.tasks()[0].name
    if old != new:
        raise BadInput(f"--like {run.folder}:", f"its task is {old}, this sweep's {new}", f"give a sweep on {new}")
    order = [one.pair for one in by_score(run.records)]
    common: dict[str, EarlierPair] = {}
    for pair in sweep.pairs:
        alike = [one for one in before.pairs if one.learner.name == pair.learner.name]
        same_base = [one for one in alike if one.base == pair.base]
        same_base += [one for one in alike if plain_base(one.base) == plain_base(pair.base)]  # in another dtype
        best_first = sorted(alike, key=lambda one: order.index(one.name) if one.name in order else len(order))
        for one in [*same_base, *best_first][:1]:
            common[pair.name] = EarlierPair(one.name, before.space_of(one))
    if not common:
        there, wanted = ([*dict.fromkeys(pair.learner.name for pair in one.pairs)] for one in (before, sweep))
        raise BadInput(
            f"--like {run.folder}:",
            f"its learners are {', '.join(there)}, this sweep's {', '.join(wanted)}",
            f"add --learner {there[0]}, or give another sweep",
        )
    names = dict.fromkeys(one.name for one in common.values())
    if not by_score(one for one in run.records if one.pair in names):
        raise BadInput(
            f"--like {run.folder}:",
            f"none of its {len(run.records)} trials of {', '.join(names)} has a score",
            "give a sweep that has, or start without --like",
        )
    return common


def best_fields(space: Space, trials: Sequence[TrialRecord], finals: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the distinct fields of trials, clipped to a space: those with the ids of `finals` in their order, then the
    others by score."""
    confirmed = sorted((one for one in trials if one.trial_id in finals), key=lambda one: finals.index(one.trial_id))
    best: list[dict[str, Any]] = []
    for one in [*confirmed, *by_score(trials)]:
        fields = _clipped(space, one.params.fields)
        if fields not in best and space.contains(fields):
            best.append(fields)
    return best


def observed(pair: str, space: Space, trials: Sequence[TrialRecord]) -> list[Observation]:
    """Return the trials whose values lie inside a space, the best first. Axes that it has fixed do not matter."""
    order, found = _in_order(trials), []
    for place, one in enumerate(order):
        fields = _clipped(space, one.params.fields)
        moved = any(fields[name] != one.params.fields[name] for name in fields if not space.axes[name].single())
        if not moved and space.contains(fields):
            found.append(Observation(TrialParams(pair, fields), 1 - place / max(1, len(order) - 1)))
    return found


def _clipped(space: Space, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nearest configuration inside the space, without axes that are not active in it."""
    values = {
        name: _only(axis) if axis.single() else _nearest(axis, fields[name])
        for name, axis in space.axes.items()
        if axis.single() or name in fields
    }
    while closed := [name for name in values if not space.active(name, values)]:
        values = {name: value for name, value in values.items() if name not in closed}
    return values


def _nearest(axis: BaseDistribution, value: Any) -> Any:
    if inside(axis, value) or not isinstance(value, int | float):
        return value
    if isinstance(axis, CategoricalDistribution):
        below = [c for c in axis.choices if isinstance(c, int | float) and not isinstance(c, bool) and c <= value]
        return max(below, default=value)
    return min(max(value, axis.low), axis.high)  # type: ignore[attr-defined]  # `high` is on the step's grid


def _only(axis: BaseDistribution) -> Any:
    return axis.choices[0] if isinstance(axis, CategoricalDistribution) else axis.low  # type: ignore[attr-defined]


def _narrowed(space: Space, trials: Sequence[TrialRecord], best: Sequence[Mapping[str, Any]]) -> Space:
    """Narrow every axis of the space; the configurations to try first stay inside."""
    ordered = [one.params.fields for one in _in_order(trials)]
    good = max(LEAST_GOOD, math.ceil(len(ordered) / GOOD))
    axes = {}
    for name, axis in space.axes.items():
        parts = (ordered[:good], ordered[good:])
        liked, others = ([one[name] for one in part if inside(axis, one.get(name, math.nan))] for part in parts)
        keep = [one[name] for one in best if name in one]
        axes[name] = axis if axis.single() or not liked else NarrowedAxis(axis, liked, others, keep).narrowed()
    return _sound(axes, space)


def _in_order(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Sort trials with a score, the best first, by how many of the others each beats at the rounds that both have run.

    So a trial that ASHA stopped early is not compared with later rounds of others. Diverged trials are last.
    """
    scored = [*by_score(trials), *(one for one in trials if one.status == "diverged")]

    def by_round(one: TrialRecord, rounds: int) -> float:
        if one.status == "diverged":
            return -1.0
        seen = one.history.up_to(rounds).score
        return (one.score or 0.0) if seen is None else seen

    def beaten(one: TrialRecord) -> float:
        met = [(other, min(one.rounds, other.rounds)) for other in scored]
        return sum(float(np.sign(by_round(one, rounds) - by_round(other, rounds))) for other, rounds in met)

    return sorted(scored, key=lambda one: (-beaten(one), one.number))


@dataclasses.dataclass(frozen=True)
class NarrowedAxis:
    """An axis with the values of good trials and of the others, and the values that must stay."""

    whole: BaseDistribution
    good: Sequence[Any]
    rest: Sequence[Any]
    keep: Sequence[Any]

    def narrowed(self) -> BaseDistribution:
        if isinstance(whole := self.whole, CategoricalDistribution):
            return CategoricalDistribution([c for c in whole.choices if not self._shunned(c)] or whole.choices)
        assert isinstance(whole, FloatDistribution | IntDistribution)
        good, rest, kept = (np.array(values, float) for values in (self.good, self.rest, self.keep))
        ends = {1: whole.low, -1: whole.high}
        for end in sorted(ends, key=lambda end: _lag(good, rest, end)[1]):  # cut trials count once
            place, luck = _lag(good, rest, end)
            if luck < LUCK:
                rest = rest[end * rest > end * place]
                ends[end] = end * min(end * v for v in [place, *kept])
        return _between(whole, ends[1], ends[-1]) if ends[1] <= ends[-1] else whole

    def _shunned(self, choice: Any) -> bool:
        good, rest, kept = (sum(same(choice, v) for v in values) for values in (self.good, self.rest, self.keep))
        luck = hypergeom.cdf(good, len(self.good) + len(self.rest), len(self.good), good + rest)
        return not kept and luck < LUCK


def _lag(good: np.ndarray, rest: np.ndarray, end: int) -> tuple[float, float]:
    """Return where the good trials are most underrepresented, from the low (1) or high end (-1), and the p-value."""
    if not len(rest):
        return math.nan, 1.0
    test = ks_2samp(end * good, end * rest, alternative="less", method="exact")
    return end * float(test.statistic_location), float(test.pvalue)


def _between(whole: FloatDistribution | IntDistribution, low: float, high: float) -> BaseDistribution:
    """Return the axis from `low` to `high` with a margin at each end, on its grid and within its ends."""
    there, back = (math.log, math.exp) if whole.log else (float, float)
    margin = MARGIN * (there(whole.high) - there(whole.low))
    low = whole.low if low == whole.low else max(whole.low, back(there(low) - margin))
    high = whole.high if high == whole.high else min(whole.high, back(there(high) + margin))
    if whole.step is not None:
        low = whole.low + whole.step * math.floor((low - whole.low) / whole.step + 1e-9)
        high = min(whole.high, whole.low + whole.step * math.ceil((high - whole.low) / whole.step - 1e-9))
    if isinstance(whole, IntDistribution):
        return IntDistribution(round(low), round(high), log=whole.log, step=whole.step)
    return FloatDistribution(low, high, log=whole.log, step=whole.step)


def _sound(axes: Mapping[str, BaseDistribution], space: Space) -> Space:
    """Join axes with the space's conditions; drop axes that no remaining value of a parent activates."""
    conditions = {
        axis: {parent: tuple(v for v in values if inside(axes[parent], v)) for parent, values in parents.items()}
        for axis, parents in space.conditions.items()
    }
    whole = Space(axes, conditions)
    return whole.without(*(name for name in axes if not all(whole.opening(name).values())))


def _range(axis: BaseDistribution) -> str:
    assert isinstance(axis, CategoricalDistribution | FloatDistribution | IntDistribution)
    return describe(axis) if isinstance(axis, CategoricalDistribution) else f"{shown(axis.low)}-{shown(axis.high)}"
