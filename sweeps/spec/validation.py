"""Checks of a `Sweep` before Ray starts. They raise `BadInput`: one line with the value and the remedy."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from search_spaces.space import Space
from trainables.bad_input import BadInput, one_line
from trainables.core import Pair, Split, Task

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_numbers(sweep: Any, objectives: Iterable[str]) -> None:
    """Check a sweep's name, counts and resources."""
    if not isinstance(sweep.name, str) or not NAME.fullmatch(sweep.name):
        raise BadInput(
            f"name {sweep.name!r}", "cannot be a folder's", "use letters, digits, '.', '_' and '-', at most 100"
        )
    bounds = {"num_samples": 1, "rounds": 1, "reduction_factor": 2, "seed": 0, "max_concurrent_trials": 1}
    bounds |= {"finalists": 0, "num_workers": 1}
    bounds |= {name: 1 for name in ("seats", "hosts") if getattr(sweep, name) != "auto"}
    for name, least in bounds.items():
        value = getattr(sweep, name)
        if value is None and name in ("max_concurrent_trials", "num_workers"):
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise BadInput(name, f"is {value!r}", f"give a whole number of at least {least}")
    if sweep.seed >= 2**32:
        raise BadInput(f"seed is {sweep.seed}", remedy="give a number below 2**32")
    if sweep.search not in ("tpe", "random", "nsga2"):
        raise BadInput("search", f"is {sweep.search!r}", "choose 'tpe', 'random' or 'nsga2'")
    if sweep.parallel_strategy not in ("auto", "ddp", "fsdp"):
        raise BadInput(f"parallel_strategy is {sweep.parallel_strategy!r}", remedy="choose 'auto', 'ddp' or 'fsdp'")
    if sweep.objectives[:1] != ("score",) or len(set(sweep.objectives)) < len(sweep.objectives):
        raise BadInput(
            "objectives", f"are {list(sweep.objectives)}", "begin with 'score', and name each of the others once"
        )
    if unknown := [name for name in sweep.objectives if name not in objectives]:
        raise BadInput(f"objective {unknown[0]!r}", "is not known", f"choose of {', '.join(objectives)}")
    if sweep.time_budget_s is not None and not 0 < sweep.time_budget_s < math.inf:
        raise BadInput(
            f"time_budget_s is {sweep.time_budget_s}", remedy="give seconds above 0, or leave it out for no limit"
        )
    if sweep.minutes is not None and not 0 < sweep.minutes < math.inf:
        raise BadInput(f"minutes is {sweep.minutes}", remedy="give a number above 0, or leave it out for no limit")
    for name in ("time_budget_s", "budget"):
        if sweep.minutes is not None and getattr(sweep, name) is not None:
            raise BadInput(
                f"minutes is {sweep.minutes:g} beside {name} = {getattr(sweep, name):g}", remedy="give only one"
            )
    if sweep.max_cost is not None and not 0 < sweep.max_cost < math.inf:
        raise BadInput(f"max_cost is {sweep.max_cost}", remedy="give dollars above 0, or leave it out for no limit")
    pairs = len(sweep.pairs)
    if sweep.budget is not None and not pairs <= sweep.budget < math.inf:
        raise BadInput(
            f"budget is {sweep.budget:g} full trainings", remedy=f"give at least {pairs}, one for each learner"
        )
    for name in ("budget", "minutes"):
        if (limit := getattr(sweep, name)) is not None and sweep.scheduler != "asha":
            raise BadInput(name, f"is {limit:g}, which --scheduler {sweep.scheduler} does not keep", "leave one out")
    for name, amount in sweep.resources_per_trial.items():
        if not isinstance(amount, int | float) or not 0 <= amount < math.inf:
            raise BadInput(f"resources_per_trial[{name!r}]", f"is {amount!r}", "give a number of at least 0")
        if name == "gpu" and amount > 1 and amount != int(amount):
            raise BadInput(
                f"resources_per_trial['gpu'] is {amount}", remedy=f"above 1 it must be whole: use {math.ceil(amount)}"
            )


def check_grace_period(grace_period: int | None, rounds: int) -> None:
    """Check that the grace period has at least one round, and not more than a trial."""
    if grace_period is None:
        return
    if not isinstance(grace_period, int) or grace_period < 1:
        raise BadInput(
            f"grace_period is {grace_period!r}",
            remedy="give a whole number of at least 1, or none for an eighth of the rounds",
        )
    if grace_period > rounds:
        raise BadInput(f"grace_period is {grace_period}, above rounds = {rounds}", remedy="lower it, or raise rounds")


def check_pairs(pairs: tuple[Pair, ...], optional: tuple[Pair, ...]) -> None:
    """Check that names are unique, and that learners which need a base have one."""
    if not pairs:
        raise BadInput("pairs", "is empty", "give at least one Pair(learner, task, base)")
    names = [pair.name for pair in (*pairs, *optional)]
    for pair in (*pairs, *optional):
        name = pair.learner.name
        if not NAME.fullmatch(name) or "." in name:
            raise BadInput(f"learner name {name!r}", "cannot prefix axes", "use letters, digits, '_' and '-'")
        check_label(pair.label)
        if names.count(pair.name) > 1:
            raise BadInput(
                f"learner {pair.name!r}", f"is in {names.count(pair.name)} pairs", "keep one, or run a sweep for each"
            )
        adapter = pair.learner.adapter() if pair.learner.packs else None
        if adapter is not None and not adapter.r and not adapter.num_virtual_tokens:
            raise BadInput(f"learner {name!r}", "has no trainable parameter", "give it a rank or virtual tokens")
        only = pair.learner.only_task
        if only not in (None, pair.task.name):
            raise BadInput(
                f"learner {name!r}", f"is for the task {only!r}", f"pair it with that, not with {pair.task.name!r}"
            )
        if pair.learner.needs_base and pair.base in ("", "none"):
            raise BadInput(
                f"learner {name!r}", f"needs a base and has {pair.base!r}", "give one, as --base builtin:tiny"
            )


def check_label(label: str) -> None:
    """Check that the label of a base can be a part of the names of axes and files."""
    if label and (not NAME.fullmatch(label) or "." in label):
        raise BadInput(f"the label {label!r} of a base", "cannot be in an axis", "use letters, digits, '_' and '-'")


def check_space_names(space: Any, pairs: tuple[Pair, ...], optional: tuple[Pair, ...]) -> None:
    """Check that there is one space, or one for every learner's or pair's name and for no other."""
    if isinstance(space, Space):
        return
    if not isinstance(space, Mapping):
        raise BadInput(f"space is {space!r}", remedy="give a Space, or a mapping of learner names to Spaces")
    for pair in pairs:
        if not isinstance(space.get(pair.name, space.get(pair.learner.name)), Space):
            name = pair.learner.name
            raise BadInput(f"learner {name!r}", "has no Space", f"spaces are for {list(space)}: add one for {name!r}")
    known = {name for pair in (*pairs, *optional) for name in (pair.name, pair.learner.name)}
    for name in space:
        if name not in known:
            raise BadInput(
                f"a space is for learner {name!r}, which is not in this sweep", remedy=f"learners are {sorted(known)}"
            )


def check_splits(task: Task) -> None:
    """Check that every split can be read and is not empty. Guards check the examples themselves."""
    for split in get_args(Split):
        try:
            examples = task.split(split)
        except (OSError, ValueError) as fault:
            raise BadInput(f"task {task.name!r}, split {split!r}:", one_line(fault)) from fault
        if not examples:
            raise BadInput(
                f"task {task.name!r}:", f"its {split} split is empty", "give it examples, or loosen its filters"
            )
