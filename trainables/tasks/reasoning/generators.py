"""The generators of reasoning-gym: which the user names, with which parameters, and the data sets that they make.

reasoning-gym (Stojanovski et al. 2025, Apache-2.0) is an extra package, which `make reasoning-gym` installs. It is
imported when questions are first needed, so that a task can be described without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from trainables.models.base_fault import first_line

PREFIX, JOIN = "rg:", "+"
SET_HERE = ("seed", "size")  # parameters of every generator that are no difficulty
MOST_DRAWS = 10_000  # of one generator; reasoning-gym wants to know it beforehand


@dataclass(frozen=True)
class Generator:
    """A generator with the parameters that differ from its defaults; `values` are JSON texts."""

    name: str
    values: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.values)
        return f"{self.name} ({given})" if given else self.name


def split_names(text: str) -> list[str]:
    """Return the names in `rg:chain_sum+gcd`. Raise ValueError for an empty name, and for one that comes twice."""
    names = text.removeprefix(PREFIX).split(JOIN)
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"task '{text}': name each generator once, such as {PREFIX}chain_sum{JOIN}gcd")
    return names


def with_params(names: Sequence[str], params: Sequence[str]) -> tuple[Generator, ...]:
    """Return the generators with parameters, such as `gcd.max_value=100`; without a name where there is one generator.

    Raise ValueError for a text of another form, a generator that is not named, and a parameter that comes twice.
    """
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for text in params:
        left, equals, value = text.partition("=")
        name, _, parameter = left.rpartition(".")
        name = name or (names[0] if len(names) == 1 else "")
        if not equals or not parameter or name not in found:
            example = f"{names[0]}.PARAMETER=VALUE"
            raise ValueError(f"params '{text}': write {example}, for one of the generators {', '.join(names)}")
        if parameter in found[name]:
            raise ValueError(f"params '{text}': {name} has {parameter} twice; give it once")
        found[name][parameter] = value
    return tuple(Generator(name, tuple(values.items())) for name, values in found.items())


def package_version() -> str:
    """Raise ValueError if reasoning-gym, or what it needs, is not installed."""
    _registry()
    return version("reasoning-gym")


def open_dataset(generator: Generator, seed: int) -> Any:
    """Return reasoning-gym's data set: `[i]` draws an entry, and `score_answer` is its verifier.

    Raise ValueError for an unknown generator, an unknown parameter, and values that the generator refuses.
    """
    registry = _registry()
    if generator.name not in registry:
        near = get_close_matches(generator.name, registry, n=3, cutoff=0.5) or sorted(registry)[:3]
        raise ValueError(
            f"{PREFIX}{generator.name} is no generator of reasoning-gym; the nearest are {', '.join(near)}"
        )
    return _open(generator, seed)


@lru_cache(maxsize=128)
def _open(generator: Generator, seed: int) -> Any:
    import reasoning_gym

    known = _defaults(generator.name)
    listed = f"its parameters are {', '.join(f'{name}={value}' for name, value in known.items()) or '(none)'}"
    given = {name: _value(text) for name, text in generator.values}
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{PREFIX}{generator.name} has no parameter {unknown[0]!r}; {listed}")
    try:
        return reasoning_gym.create_dataset(generator.name, seed=seed, size=MOST_DRAWS, **given)
    except Exception as error:  # whatever a generator raises for its parameters, mostly AssertionError and TypeError
        raise ValueError(f"{PREFIX}{generator} cannot be made: {first_line(error)}; {listed}") from error


def _registry() -> Mapping[str, Any]:
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ValueError(f"reasoning-gym is not installed ({error}); run `make reasoning-gym`") from error
    return DATASETS


def _defaults(name: str) -> dict[str, Any]:
    """Return the parameters of a generator that a user may give, with their defaults."""
    return {
        one.name: one.default_factory() if one.default_factory is not MISSING else one.default
        for one in fields(_registry()[name][1])
        if one.name not in SET_HERE
    }


def _value(text: str) -> Any:
    """Read a JSON value; other text stands for itself. Lists become tuples, as generators have them."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value
