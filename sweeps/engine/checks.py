"""What is checked of a `Sweep` before Ray starts. Checks raise `BadInput`: one line with the value and the remedy."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.axis import describe, same
from search_spaces.space import Space
from trainables.core import Pair, Task

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class BadInput(ValueError):
    """The user's input cannot be used; the message is one line that names the value and the remedy."""


def check_numbers(sweep: Any, objectives: Iterable[str]) -> None:
    """A sweep's name, counts and resources."""
    if not isinstance(sweep.name, str) or not NAME.fullmatch(sweep.name):
        raise BadInput(f"name {sweep.name!r} cannot be a folder's; use letters, digits, '.', '_' and '-', at most 100")
    bounds = {"num_samples": 1, "rounds": 1, "reduction_factor": 2, "seed": 0, "max_concurrent_trials": 1}
    bounds |= {"finalists": 0, "num_workers": 1}
    bounds |= {name: 1 for name in ("seats", "hosts") if getattr(sweep, name) != "auto"}
    for name, least in bounds.items():
        value = getattr(sweep, name)
        if value is None and name in ("max_concurrent_trials", "num_workers"):
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise BadInput(f"{name} is {value!r}; give a whole number of at least {least}")
    if sweep.seed >= 2**32:
        raise BadInput(f"seed is {sweep.seed}; give a number below 2**32")
    if sweep.search not in ("tpe", "random", "nsga2"):
        raise BadInput(f"search is {sweep.search!r}; choose 'tpe', 'random' or 'nsga2'")
    if sweep.parallel_strategy not in ("auto", "ddp", "fsdp"):
        raise BadInput(f"parallel_strategy is {sweep.parallel_strategy!r}; choose 'auto', 'ddp' or 'fsdp'")
    if sweep.objectives[:1] != ("score",) or len(set(sweep.objectives)) < len(sweep.objectives):
        raise BadInput(f"objectives are {list(sweep.objectives)}; begin with 'score', and name each of the others once")
    if unknown := [name for name in sweep.objectives if name not in objectives]:
        raise BadInput(f"objective {unknown[0]!r} is not known; choose of {', '.join(objectives)}")
    if sweep.time_budget_s is not None and not 0 < sweep.time_budget_s < math.inf:
        raise BadInput(f"time_budget_s is {sweep.time_budget_s}; give seconds above 0, or leave it out for no limit")
    if sweep.max_cost is not None and not 0 < sweep.max_cost < math.inf:
        raise BadInput(f"max_cost is {sweep.max_cost}; give dollars above 0, or leave it out for no limit")
    for name, amount in sweep.resources_per_trial.items():
        if not isinstance(amount, int | float) or not 0 <= amount < math.inf:
            raise BadInput(f"resources_per_trial[{name!r}] is {amount!r}; give a number of at least 0")
        if name == "gpu" and amount > 1 and amount != int(amount):
            raise BadInput(f"resources_per_trial['gpu'] is {amount}; above 1 it must be whole: use {math.ceil(amount)}")


def check_grace_period(grace_period: int | None, rounds: int) -> None:
    """ASHA needs at least one round, and none of them after the last."""
    if grace_period is None:
        return
    if not isinstance(grace_period, int) or grace_period < 1:
        raise BadInput(f"grace_period is {grace_period!r}; give a whole number of at least 1, or none for one pass")
    if grace_period > rounds:
        raise BadInput(f"grace_period is {grace_period}, above rounds = {rounds}; lower it, or raise rounds")


def check_pairs(pairs: tuple[Pair, ...], optional: tuple[Pair, ...]) -> None:
    """Names that can tell pairs apart, and a base where one is needed."""
    if not pairs:
        raise BadInput("pairs is empty; give at least one Pair(learner, task, base)")
    names = [pair.learner.name for pair in (*pairs, *optional)]
    for pair in (*pairs, *optional):
        name = pair.learner.name
        if not NAME.fullmatch(name) or "." in name:
            raise BadInput(f"learner name {name!r} cannot prefix axes; use letters, digits, '_' and '-'")
        if names.count(name) > 1:
            raise BadInput(f"learner {name!r} is in {names.count(name)} pairs; keep one, or run a sweep for each")
        adapter: Any = pair.learner.adapter() if pair.learner.packs else None  # type: ignore[attr-defined]
        if adapter is not None and not adapter.r and not adapter.num_virtual_tokens:
            raise BadInput(f"learner {name!r} has no trainable parameter; give it a rank or virtual tokens")
        only = getattr(pair.learner, "only_task", pair.task.name)
        if only != pair.task.name:
            raise BadInput(f"learner {name!r} is for the task {only!r}; pair it with that, not with {pair.task.name!r}")
        if pair.learner.needs_base and pair.base in ("", "none"):
            raise BadInput(f"learner {name!r} needs a base and has {pair.base!r}; give one, as --base builtin:tiny")


def check_space_names(space: Any, pairs: tuple[Pair, ...], optional: tuple[Pair, ...]) -> None:
    """Either one space, or a space for every learner's name and for no other."""
    if isinstance(space, Space):
        return
    names = [pair.learner.name for pair in pairs]
    if not isinstance(space, Mapping):
        raise BadInput(f"space is {space!r}; give a Space, or a mapping of learner names to Spaces")
    for name in names:
        if not isinstance(space.get(name), Space):
            raise BadInput(f"learner {name!r} has no Space; spaces are for {list(space)}: add one for {name!r}")
    known = {*names, *(pair.learner.name for pair in optional)}
    for name in space:
        if name not in known:
            raise BadInput(f"a space is for learner {name!r}, which is not in this sweep; learners are {sorted(known)}")


def fields_of(learner: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(learner)]


def check_axes(learner: Any, space: Space) -> None:
    """Every axis is a field of the learner, of its type, and the learner accepts the ends of its range where the axis
    is active."""
    config = type(learner).__name__
    if unknown := [name for name in space.axes if name not in fields_of(learner)]:
        shown = f"{unknown[0]!r} is" if len(unknown) == 1 else f"{unknown} are"
        raise BadInput(f"axis {shown} not a field of {config}; fields are {fields_of(learner)}")
    for axis, parents in space.conditions.items():
        if missing := [parent for parent in parents if parent not in space.axes]:
            raise BadInput(
                f"axis {axis!r} depends on {missing}, not in the space of {learner.name!r}; add {missing[0]!r}"
            )
    hints = typing.get_type_hints(type(learner))
    for name, distribution in space.axes.items():
        values = _ends(distribution)
        if isinstance(distribution, FloatDistribution) and not _accepts(hints[name], 0.5):
            values = [distribution.low + 0.5]  # a float axis gives fractions, whatever its ends
        for value in values:
            if not _accepts(hints[name], value):
                raise BadInput(
                    f"axis {name!r} in {describe(distribution)} gives {value!r}, and {config}.{name} is "
                    f"{_text(hints[name])}; use .replace({name}=...)"
                )
            try:
                with_axis(learner, space, name, value)
            except ValueError as fault:
                raise BadInput(
                    f"axis {name!r} in {describe(distribution)} reaches {value!r}: {one_line(fault)}"
                ) from fault


def check_splits(task: Task) -> None:
    """Every split can be read and has examples; what they are is the guards' business."""
    for split in ("train", "search", "test"):
        try:
            examples = getattr(task, split)()
        except (OSError, ValueError) as fault:
            raise BadInput(f"task {task.name!r}, split {split!r}: {one_line(fault)}") from fault
        if not examples:
            raise BadInput(f"task {task.name!r}: its {split} split is empty; give it examples, or loosen its filters")


def with_fields(learner: Any, fields: Mapping[str, Any]) -> Any:
    """The learner's configuration with these fields. Raises BadInput where it has no such field or refuses a value."""
    if unknown := [name for name in fields if name not in fields_of(learner)]:
        near = difflib.get_close_matches(unknown[0], fields_of(learner), 1)
        perhaps = f"perhaps {near[0]}; " if near else ""
        raise BadInput(
            f"axis {unknown[0]!r} is not a field of {type(learner).__name__}; {perhaps}fields are {fields_of(learner)}"
        )
    try:
        return dataclasses.replace(learner, **fields)
    except ValueError as fault:
        raise BadInput(one_line(fault)) from fault


def with_axis(learner: Any, space: Space, axis: str, value: Any) -> Any:
    """The learner's configuration with the axis at this value, and with values of other axes under which it is active:
    the learner's own where they do. None where no values do. Raises ValueError where the learner refuses."""
    fields = {axis: value}
    for parent, opening in space.opening(axis).items():
        if not opening:
            return None
        own = getattr(learner, parent)
        fields[parent] = own if any(same(own, one) for one in opening) else opening[0]
    return dataclasses.replace(learner, **fields)


def read_value(text: str, value: str) -> Any:
    """The value in an AXIS=VALUE of a command line, which is `text`."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise BadInput(
            f"{text}: {value!r} is no value of an axis; give a number, a word, true, false or null"
        ) from error


def cast(learner: Any, name: str, value: Any) -> Any:
    """A value as read from a command line, in the field's type: YAML reads 1e-3 as text, and 1 is a fine float. A field
    of several texts takes a list, or `a,b`."""
    hint = typing.get_type_hints(type(learner))[name]
    if float in _kinds(hint) and not _accepts(hint, value) and isinstance(value, str):
        with contextlib.suppress(ValueError):  # then it is no number, and is refused below
            value = float(value)
    if hint == tuple[str, ...]:
        texts = value.split(",") if isinstance(value, str) else value
        if isinstance(texts, list | tuple) and texts and all(isinstance(text, str) and text for text in texts):
            return tuple(texts)
        raise BadInput(f"{name} is {value!r}; give names with commas between them, as in {name}=a,b")
    if not _accepts(hint, value):
        raise BadInput(f"{name} is {value!r}, and {type(learner).__name__}.{name} is {_text(hint)}; give such a value")
    return value


def check_fixed(learner: Any, space: Space, name: str) -> None:
    """An axis that was fixed by hand is one that some trial uses, at a value that the learner accepts."""
    (value,) = _ends(space.axes[name])
    try:
        used = with_axis(learner, space, name, value)
    except ValueError as fault:
        raise BadInput(one_line(fault)) from fault
    if used is None:
        shut = next(parent for parent, opening in space.opening(name).items() if not opening)
        why = f"{shut} is in {describe(space.axes[shut])}"
        raise BadInput(f"{name} is {value!r}, which no trial would use, as {why}; leave out or change one of them")


def _ends(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]


def _kinds(hint: Any) -> Iterable[Any]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _accepts(hint: Any, value: Any) -> bool:
    """Whether a field of this type takes the value. Only what an axis can hold: numbers, text, booleans, None."""
    for kind in _kinds(hint):
        if get_origin(kind) is Literal and any(type(value) is type(a) and value == a for a in get_args(kind)):
            return True
        if kind is Any or (kind in (None, type(None)) and value is None):
            return True
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return True
        if kind in (int, bool, str) and type(value) is kind:
            return True
    return False


def _text(hint: Any) -> str:
    return " or ".join(
        f"one of {list(get_args(k))}" if get_origin(k) is Literal else getattr(k, "__name__", str(k))
        for k in _kinds(hint)
    )


def one_line(fault: BaseException) -> str:
    return " ".join(str(fault).split())
