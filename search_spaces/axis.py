"""One axis of a space: the checks of an Optuna distribution, its text, and its form in a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial


class SpaceError(ValueError):
    """An invalid space, or values outside it; the message names the value, the bound and the remedy."""


def inside(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution can give this value, by type (True is no number), range and step."""
    if isinstance(distribution, CategoricalDistribution):
        return any(same(choice, value) for choice in distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    if isinstance(distribution, IntDistribution) and isinstance(value, float):
        return False
    steps = 0.0 if distribution.step is None else (value - distribution.low) / distribution.step
    return distribution.low <= value <= distribution.high and abs(steps - round(steps)) < 1e-8


def highest(distribution: BaseDistribution, key: Callable[[Any], Any] = lambda value: value) -> Any:
    """Return the largest value that a distribution can give; `key` orders choices without an order of their own."""
    if isinstance(distribution, CategoricalDistribution):
        return max(distribution.choices, key=key)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.high


def describe(distribution: BaseDistribution) -> str:
    """Return the text for errors and plans: `[0.0001, 0.02] log` or `{4, 8, 16}`."""
    if isinstance(distribution, CategoricalDistribution):
        return "{" + ", ".join(repr(choice) for choice in distribution.choices) + "}"
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    step = "" if distribution.step in (None, 1) else f" step {distribution.step}"
    return f"[{distribution.low}, {distribution.high}]" + (" log" if distribution.log else "") + step


def same(a: Any, b: Any) -> bool:
    """Whether values are equal; 1 and True are, in Python, but not in a space."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def check_axis(name: Any, distribution: Any) -> None:
    """Raise `SpaceError` unless the name and the distribution can be an axis."""
    # Tune would nest the parameters of a name with "/", without an error.
    if not isinstance(name, str) or not name or "/" in name:
        raise SpaceError(f"axis name {name!r} must be a string that is not empty and has no '/'")
    if type(distribution) not in (FloatDistribution, IntDistribution, CategoricalDistribution):
        raise SpaceError(
            f"axis {name!r} is {distribution!r}; give an optuna FloatDistribution, IntDistribution or "
            f"CategoricalDistribution, or a constant with .fix({name}=...)"
        )
    for choice in getattr(distribution, "choices", ()):
        if not isinstance(choice, bool | int | float | str | None) or choice != choice:
            raise SpaceError(f"axis {name!r} has the choice {choice!r}; choices are numbers, strings, booleans or None")


def suggest(trial: BaseTrial, name: str, distribution: BaseDistribution) -> Any:
    """Ask an Optuna trial for a value, through its public suggest methods."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        return trial.suggest_int(name, low, high, step=step, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def to_entry(distribution: BaseDistribution) -> dict[str, Any]:
    """Return an axis as it is written to a file: `{type: float, low: 0.0001, high: 0.02, log: true}`."""
    if isinstance(distribution, CategoricalDistribution):
        return {"type": "categorical", "choices": list(distribution.choices)}
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    kind = "int" if isinstance(distribution, IntDistribution) else "float"
    entry: dict[str, Any] = {"type": kind, "low": distribution.low, "high": distribution.high}
    if distribution.log:
        entry["log"] = True
    if distribution.step is not None:
        entry["step"] = distribution.step
    return entry


def from_entry(name: str, entry: Any) -> BaseDistribution:
    """Invert `to_entry`. Raise `SpaceError` naming the axis and the entry."""
    fields: dict[str, Any] = dict(entry) if isinstance(entry, Mapping) else {}
    kind = fields.pop("type", None)
    try:
        if kind == "categorical":
            return CategoricalDistribution(tuple(fields.pop("choices")), **fields)
        if kind == "int":
            return IntDistribution(**fields)
        if kind == "float":
            # YAML 1.1 reads a hand-written 1e-4 as a string.
            fields |= {key: float(fields[key]) for key in ("low", "high", "step") if fields.get(key) is not None}
            return FloatDistribution(**fields)
    except (KeyError, TypeError, ValueError) as fault:
        raise SpaceError(f"axis {name!r} cannot be read from {entry!r}: {fault}") from fault
    raise SpaceError(f"axis {name!r} has the entry {entry!r}; its type must be float, int or categorical")
