"""Fields of a learner's configuration, as axes of a space and flags set them: names, types and values.

Checks raise `BadInput`: one line with the value and the remedy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import itertools
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.axis import describe, same
from search_spaces.space import Space
from sweeps.results.leaderboard import shown
from sweeps.spec.field_types import check_types
from trainables.bad_input import BadInput, one_line, read_number

DRAWS, MOST_REFUSED = 200, 0.5  # of configurations; the search draws others in place of those that a learner refuses


def fields_of(learner: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(learner)]


def check_axes(learner: Any, space: Space) -> None:
    """Check that every axis is a field of the learner and has its type, and that the learner accepts the ends of its
    range where the axis is active."""
    config = type(learner).__name__
    if unknown := [name for name in space.axes if name not in fields_of(learner)]:
        shown = f"{unknown[0]!r} is" if len(unknown) == 1 else f"{unknown} are"
        raise BadInput(f"axis {shown} not a field of {config}", remedy=f"fields are {fields_of(learner)}")
    for axis, parents in space.conditions.items():
        if missing := [parent for parent in parents if parent not in space.axes]:
            raise BadInput(
                f"axis {axis!r}", f"depends on {missing}, not in the space of {learner.name!r}", f"add {missing[0]!r}"
            )
    hints = typing.get_type_hints(type(learner))
    for name, distribution in space.axes.items():
        values = _ends(distribution)
        if isinstance(distribution, FloatDistribution) and not _accepts(hints[name], 0.5):
            values = [distribution.low + 0.5]  # a float axis gives fractions, whatever its ends
        for value in values:
            if not _accepts(hints[name], value):
                raise BadInput(
                    f"axis {name!r} in {describe(distribution)}",
                    f"gives {value!r}, and {config}.{name} is {_text(hints[name])}",
                    f"use .replace({name}=...)",
                )
            try:
                with_axis(learner, space, name, value)
            except ValueError as fault:
                raise BadInput(
                    f"axis {name!r} in {describe(distribution)}", f"reaches {value!r}: {one_line(fault)}"
                ) from fault


def check_together(learner: Any, space: Space) -> None:
    """Check that the learner accepts all values together that axes give its fields of `LearnerConfig.together`."""
    names = [name for name in learner.together if name in space.axes]
    for values in itertools.product(*(_every(space.axes[name]) for name in names)):
        try:
            dataclasses.replace(learner, **dict(zip(names, values, strict=True)))
        except ValueError as fault:
            given = " ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
            raise BadInput(f"the space of {learner.name!r}", f"gives {given}: {one_line(fault)}") from fault


def check_draws(learner: Any, space: Space) -> None:
    """Check that the learner accepts most draws of the space: values that it accepts alone may not go together."""
    refused = []
    for fields in drawn(space, DRAWS):
        try:
            with_fields(learner, fields)
        except BadInput as fault:
            refused.append((fields, fault))
    if len(refused) > MOST_REFUSED * DRAWS:
        fields, why = refused[0]
        example = " ".join(f"{name}={shown(value)}" for name, value in fields.items())
        raise BadInput(
            learner.name,
            f"refuses {len(refused) / DRAWS:.0%} of the configurations that its space gives, such as {example} ({why})",
            "narrow an axis, or fix one with --set",
        )


def drawn(space: Space, count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Draw configurations as random search does; equal seeds give equal ones."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # Optuna logs a line for every study
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(count):
        yield space.suggest(study.ask())


def with_fields(learner: Any, fields: Mapping[str, Any]) -> Any:
    """Return the configuration with these fields. Raise BadInput for an unknown field or a value that it refuses."""
    if unknown := [name for name in fields if name not in fields_of(learner)]:
        near = difflib.get_close_matches(unknown[0], fields_of(learner), 1)
        perhaps = f"perhaps {near[0]}; " if near else ""
        raise BadInput(
            f"axis {unknown[0]!r}",
            f"is not a field of {type(learner).__name__}",
            f"{perhaps}fields are {fields_of(learner)}",
        )
    check_types(type(learner), fields)
    try:
        return dataclasses.replace(learner, **fields)
    except ValueError as fault:
        raise BadInput(one_line(fault)) from fault


def with_axis(learner: Any, space: Space, axis: str, value: Any) -> Any:
    """Return the configuration with the axis at this value, and with values of other axes under which it is active.

    These are the learner's own, if they activate it. None if no values do. Raises ValueError if the learner refuses.
    """
    fields = {axis: value}
    for parent, opening in space.opening(axis).items():
        if not opening:
            return None
        own = getattr(learner, parent)
        fields[parent] = own if any(same(own, one) for one in opening) else opening[0]
    return dataclasses.replace(learner, **fields)


def read_value(text: str, value: str) -> Any:
    """Parse the value of `text`, an AXIS=VALUE of a command line."""
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError) as error:
        raise BadInput(
            f"{text}: {value!r} is no value of an axis; give a number, a word, true, false or null"
        ) from error


def cast(learner: Any, name: str, value: Any) -> Any:
    """Convert a value from a command line to the field's type: YAML reads 1e-3 as text, and a float may be given as 1.

    A field of several texts takes a list, or `a,b`.
    """
    hint = typing.get_type_hints(type(learner))[name]
    if float in _kinds(hint) and not _accepts(hint, value) and isinstance(value, str):
        with contextlib.suppress(ValueError):  # then it is no number, and is refused below
            value = read_number(value) if math.isfinite(float(value)) else float(value)
    if hint == tuple[str, ...]:
        texts = value.split(",") if isinstance(value, str) else value
        if isinstance(texts, list | tuple) and texts and all(isinstance(text, str) and text for text in texts):
            return tuple(texts)
        raise BadInput(name, f"is {value!r}", f"give names with commas between them, as in {name}=a,b")
    if isinstance(value, float) and not math.isfinite(value):  # nan passes every comparison with a bound
        raise BadInput(name, f"is {value!r}", "give a finite number")
    if not _accepts(hint, value):
        raise BadInput(name, f"is {value!r}, and {type(learner).__name__}.{name} is {_text(hint)}", "give such a value")
    return value


def check_fixed(learner: Any, space: Space, name: str) -> None:
    """Check that some trial uses an axis that was fixed by hand, and that the learner accepts its value."""
    (value,) = _ends(space.axes[name])
    try:
        used = with_axis(learner, space, name, value)
    except ValueError as fault:
        raise BadInput(one_line(fault)) from fault
    if used is None:
        shut = next(parent for parent, opening in space.opening(name).items() if not opening)
        why = f"{shut} is in {describe(space.axes[shut])}"
        raise BadInput(name, f"is {value!r}, which no trial would use, as {why}", "leave out or change one of them")


def _ends(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]


def _every(distribution: BaseDistribution) -> Iterable[Any]:
    """Return all values of an axis of a few values or of whole numbers."""
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    return _ends(distribution)


def _kinds(hint: Any) -> Iterable[Any]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _accepts(hint: Any, value: Any) -> bool:
    """Whether a field of this type takes the value, which is one that an axis can hold: number, text, boolean, None."""
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
