"""Sweep: a frozen value with all settings of a search. `validate` checks it before Ray starts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from optuna.distributions import CategoricalDistribution

from search_spaces.axis import highest, inside
from search_spaces.names import without_prefix
from search_spaces.space import Space
from sweeps.results.pareto import OBJECTIVES
from sweeps.results.rungs import MEAN_OF, decided_at, first_rung
from sweeps.results.trial_params import LEARNER, Observation, TrialParams
from sweeps.spec import validation
from sweeps.spec.config_fields import cast, check_axes, check_draws, check_fixed, check_together, fields_of, with_fields
from sweeps.spec.earlier_looks import EarlierLooks
from trainables.bad_input import BadInput
from trainables.core import Pair, Split, Task
from trainables.options import early_phases

__all__ = ["BadInput", "Sweep", "data_fingerprint"]


@dataclass(frozen=True)
class Sweep:
    """A search: its pairs, space and length. A trial is a configuration of one pair; `space` may be one per learner, or
    per pair where the sweep has several bases."""

    name: str  # of the folder, the study and the tracked run
    pairs: tuple[Pair, ...]
    space: Space | Mapping[str, Space]
    optional: tuple[Pair, ...] = ()  # pairs that run only when --learner names them
    num_samples: int = 16  # trials that are started, at most
    all_trials: bool = False  # start all of num_samples, even if more of them would hardly find anything better
    budget: float | None = None  # work of the search, in trainings of all rounds; None: as much as num_samples takes
    rounds: int = 8  # rounds of a trial that is not stopped early
    grace_period: int | None = None  # rounds before ASHA may stop a trial; None: an eighth of all rounds
    reduction_factor: int = 3  # ASHA keeps one trial in so many at each rung
    scheduler: Literal["asha", "stopping"] = "asha"  # trials pause and are promoted, or are stopped for good
    seed: int = 0  # of the search and of every trial, so that trials differ only in what is searched
    search: Literal["tpe", "random", "nsga2"] = "tpe"
    first: tuple[TrialParams, ...] = ()  # tried before the defaults, such as the best of an earlier sweep
    observations: tuple[Observation, ...] = ()  # of an earlier sweep, which the search sees until it has its own
    objectives: tuple[str, ...] = ("score",)  # several: a Pareto front, and no trial is stopped early
    max_concurrent_trials: int | None = None  # None: as many as the resources allow
    resources_per_trial: Mapping[str, float] = field(
        default_factory=lambda: {"cpu": 1}
    )  # gpu: fractions too, see `with_devices`
    num_workers: int | None = None  # processes that train one trial together; None: one per GPU that it asks for
    parallel_strategy: Literal["auto", "ddp", "fsdp"] = "auto"  # of theirs; auto: fsdp where the base does not fit
    minutes: float | None = None  # for all of the sweep: its sizes are chosen to fit, see `tuning/design.py`
    time_budget_s: float | None = None  # seconds after which no round is started
    max_cost: float | None = None  # dollars for rented machines that no further trial may pass
    seats: int | Literal["auto"] = "auto"  # trials that share one base in a host; auto: what memory and device allow
    keep: bool = False  # the best and latest checkpoint of every trial, so that `espalier clone` can go on from them
    finalists: int = 5  # of the best, trained again with other seeds and scored on the test split; 0: none
    hosts: int | Literal["auto"] = "auto"  # hosts of each base; auto: one per device, or per core without one
    earlier: EarlierLooks = field(default_factory=EarlierLooks)  # at the test split, before the search went on

    def validate(self) -> None:
        """Raise BadInput, one line with value and remedy, for all that would fail or mislead later."""
        validation.check_numbers(self, OBJECTIVES)
        validation.check_grace_period(self.grace_period, self.rounds)
        validation.check_pairs(self.pairs, self.optional)
        validation.check_space_names(self.space, self.pairs, self.optional)
        for pair in self.pairs:
            check_axes(pair.learner, self.space_of(pair))
            check_together(pair.learner, self.space_of(pair))
            check_draws(pair.learner, self.space_of(pair))
            if "out_of_domain" in self.objectives and not pair.learner.reports_forgetting:
                raise BadInput(
                    "objective 'out_of_domain':",
                    f"{pair.learner.name} does not ask elsewhere",
                    "drop it, or turn on its forgetting, where it has that",
                )
        if self.search == "nsga2" and (some := list(self.joined_space().conditions)):
            raise BadInput(
                "search",
                "is 'nsga2', which draws at random where not all trials have the same axes, and not all"
                f" have {some[0]!r}",
                "use 'tpe', or one --learner without such axes",
            )
        for task in self.tasks():
            validation.check_splits(task)

    @property
    def pair_names(self) -> list[str]:
        """The names of the pairs: learners, and their bases where the sweep has several."""
        return [pair.name for pair in self.pairs]

    @property
    def several_bases(self) -> bool:
        return any(pair.label for pair in self.pairs)

    @property
    def independent(self) -> bool:
        """Whether all learners train a model for each example, which have nothing in common."""
        return all(pair.learner.independent for pair in self.pairs)

    @property
    def per_example(self) -> bool:
        """Whether a learner trains a model for every example, so that further questions take further training."""
        return any(pair.learner.per_example for pair in self.pairs)

    def bases(self) -> dict[str, Pair]:
        """Return the first pair on each base, by the base's name. Pairs without a base have none."""
        found: dict[str, Pair] = {}
        for pair in self.pairs:
            if pair.learner.needs_base:
                found.setdefault(pair.base, pair)
        return found

    def tasks(self) -> list[Task]:
        """Return the pairs' tasks, each once."""
        return _distinct(pair.task for pair in self.pairs)

    def space_of(self, pair: Pair) -> Space:
        """Return the space of one pair, names without prefix."""
        if isinstance(self.space, Space):
            return self.space
        return self.space[pair.name if pair.name in self.space else pair.learner.name]

    def joined_space(self) -> Space:
        """The searcher's space: the pair's own; of several pairs each with a prefix, and the axis `learner`."""
        if len(self.pairs) == 1:
            return self.space_of(self.pairs[0])
        space = Space({LEARNER: CategoricalDistribution(self.pair_names)})
        for pair in self.pairs:
            space = space | self.space_of(pair).when(**{LEARNER: pair.name})
        return space

    def resolve(self, params: TrialParams) -> Pair:
        """Return a trial's pair, with its parameters as the learner's fields.

        Trials, finalists and `espalier reproduce` all get their pair here, and with it the same schedule.

        Raises BadInput for a learner that the sweep does not have, or fields that the learner refuses.
        """
        pair = next((one for one in self.pairs if one.name == params.pair), None)
        if pair is None:
            raise BadInput(f"learner {params.pair!r}", "is not in this sweep", f"learners are {self.pair_names}")
        learner = with_fields(pair.learner, params.fields).for_rounds(self.rounds)
        return dataclasses.replace(pair, learner=learner)

    def defaults(self) -> list[TrialParams]:
        """Return each pair's own configuration, to be tried first, without the axes whose range excludes it."""
        found = []
        for pair in self.pairs:
            space = self.space_of(pair)
            own = {name: getattr(pair.learner, name) for name in space.axes}
            found.append(TrialParams(pair.name, admissible(space, own)))
        return found

    def after_looks(self, earlier: EarlierLooks) -> Sweep:
        """Return the sweep whose finalists are asked what earlier looks at the test split have left."""
        later = (dataclasses.replace(one, task=one.task.with_test_after(earlier.questions)) for one in self.pairs)
        return dataclasses.replace(self, pairs=tuple(later), earlier=earlier)

    @property
    def finalist_seed(self) -> int:
        """The first of the seeds of finalists. No trial of the search and no earlier finalist had it."""
        return self.seed + 1 + self.earlier.seeds

    def as_fixed(self, pair: Pair) -> Pair:
        """Return a pair with the values that the sweep fixes, and the learner's own elsewhere."""
        axes = self.space_of(pair).axes.items()
        fixed = {
            name: axis.choices[0] for name, axis in axes if isinstance(axis, CategoricalDistribution) and axis.single()
        }
        return self.resolve(TrialParams(pair.name, fixed))

    def fix(self, values: Mapping[str, Any]) -> Sweep:
        """Replace searched axes by constants: a field (of every learner that has it), `lora.r` for one learner, or
        `lora@tiny.r` for that learner on one base.

        A field that is no axis becomes one with a single value, so that every record of a trial shows it; one with
        several values cannot, and is the learner's own.
        """
        learners = {pair.name: pair.learner for pair in self.pairs}
        spaces = {pair.name: self.space_of(pair) for pair in self.pairs}
        fixed = []
        for name, value in values.items():
            named = [(p, without_prefix(p.learner.name, without_prefix(p.name, name))) for p in self.pairs]
            pairs = [(pair, axis) for pair, axis in named if axis in fields_of(pair.learner)]
            if not pairs:
                fields = sorted({f for pair in self.pairs for f in fields_of(pair.learner)})
                raise BadInput(f"axis {name!r}", "is not a field of any learner of this sweep", f"fields are {fields}")
            for pair, axis in pairs:
                own, constant = pair.name, cast(pair.learner, axis, value)
                if isinstance(constant, tuple):
                    learners[own] = with_fields(learners[own], {axis: constant})
                    continue
                axes = {**spaces[own].axes, axis: CategoricalDistribution((constant,))}
                spaces[own] = Space(axes, spaces[own].conditions)
                fixed.append((own, axis))
        for own, axis in fixed:  # after the last, as one may need another
            check_fixed(learners[own], spaces[own], axis)
        changed = tuple(dataclasses.replace(pair, learner=learners[pair.name]) for pair in self.pairs)
        return dataclasses.replace(self, pairs=changed, space=spaces) if values else self

    def effective_grace_period(self) -> int:
        """Return the rounds before ASHA may stop a trial: `grace_period`, or by default `first_rung`, but not before
        every trial has as many scores of its last phase as are averaged.

        With several objectives all `rounds`: stopping by the score would throw away what is good at the others.
        """
        if len(self.objectives) > 1:
            return self.rounds
        if self.grace_period is not None:
            return self.grace_period
        last_phases = [early + MEAN_OF for pair in self.pairs if (early := self._early_rounds(pair))]
        return min(self.rounds, max([first_rung(self.rounds), *last_phases]))

    def _early_rounds(self, pair: Pair) -> int:
        """Return the rounds that a trial of a pair may spend in phases before its last, at most."""
        axes, names = self.space_of(pair).axes, early_phases(pair.learner)
        return sum(highest(axes[name]) if name in axes else getattr(pair.learner, name) for name in names)

    def rungs(self) -> list[int]:
        """Return the rounds after which ASHA decides, and the last round."""
        return decided_at(self.effective_grace_period(), self.reduction_factor, self.rounds)

    def to_dict(self) -> dict[str, Any]:
        """Return all that is needed to repeat the sweep, as plain lists, dicts and numbers."""
        plain = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        plain |= {"pairs": [_pair(pair) for pair in self.pairs], "optional": [_pair(pair) for pair in self.optional]}
        plain["first"] = [_plain(params.flat(self.pair_names)) for params in self.first]
        plain["observations"] = [[_plain(one.params.flat(self.pair_names)), one.rank] for one in self.observations]
        plain["space"] = self.joined_space().to_dict()
        plain["earlier"] = dataclasses.asdict(self.earlier)
        return plain | {"grace_period": self.effective_grace_period()}


def data_fingerprint(task: Task) -> str:
    """Return 12 hex digits that change with any split's keys, prompts, answers or their order, with what else
    learners read of a training example (`Task.extra_training_text`), or with a user's own code that scores."""
    digest = hashlib.sha256()
    for split in get_args(Split):
        rows = [(example.key, example.prompt, example.answer) for example in task.split(split)]
        digest.update(json.dumps([split, rows], ensure_ascii=False).encode())
    if code := task.user_code():
        digest.update(code.encode())
    if any(extra := [task.extra_training_text(example) for example in task.train()]):
        digest.update(json.dumps(extra, ensure_ascii=False).encode())
    return digest.hexdigest()[:12]


def admissible(space: Space, given: dict[str, Any]) -> dict[str, Any]:
    """Return the values in range whose parents are in range, too: the sampler draws the others."""
    kept: dict[str, Any] = {}
    names = list(given)
    while names:
        ready = [n for n in names if not any(parent in names for parent in space.conditions.get(n, {}))]
        for name in ready:
            names.remove(name)
            if inside(space.axes[name], given[name]) and space.active(name, kept):
                kept[name] = given[name]
    return kept


def _distinct(tasks: Any) -> list[Task]:
    found: list[Task] = []
    for task in tasks:
        if task not in found:
            found.append(task)
    return found


def _pair(pair: Pair) -> dict[str, Any]:
    plain = {"learner": _described(pair.learner), "task": _described(pair.task), "base": pair.base}
    return plain | ({"label": pair.label} if pair.label else {})


def _described(value: Any) -> dict[str, Any]:
    """Describe a configuration by its class and fields: enough to make it again."""
    kind = type(value)
    fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return {"name": value.name, "class": f"{kind.__module__}.{kind.__qualname__}", "fields": fields}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return value if isinstance(value, bool | int | float | str | None) else str(value)
