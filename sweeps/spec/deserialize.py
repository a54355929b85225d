"""A `Sweep` again from what `sweep.yaml` says of it, whichever script made it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces.space import Space
from sweeps.spec.checkout import ROOT
from sweeps.spec.sweep import LEARNER, BadInput, Sweep
from trainables.core import Pair


def rebuild(facts: Mapping[str, Any]) -> Sweep:
    """The sweep that was started, from the `sweep` part of its facts. BadInput where a class of it is not to be had."""
    plain = dict(facts["sweep"])
    pairs, optional = (tuple(map(_pair, plain.pop(name))) for name in ("pairs", "optional"))
    joined = Space.from_dict(plain.pop("space"))
    space: Space | dict[str, Space] = joined
    if len(pairs) > 1:
        space = {pair.learner.name: _own(joined, pair.learner.name) for pair in pairs}
    return Sweep(pairs=pairs, optional=optional, space=space, **{name: _frozen(v) for name, v in plain.items()})


def _pair(said: Mapping[str, Any]) -> Pair:
    return Pair(_made(said["learner"]), _made(said["task"]), said["base"])


def _made(said: Mapping[str, Any]) -> Any:
    module, _, name = said["class"].rpartition(".")
    for folder in (str(ROOT), str(Path.cwd())):
        if folder not in sys.path:
            sys.path.append(folder)
    try:
        kind = getattr(importlib.import_module(module), name)
        return kind(**{field: _frozen(value) for field, value in said["fields"].items()})
    except (ImportError, AttributeError, TypeError) as error:
        raise BadInput(
            f"{said['class']} cannot be made as the sweep had it ({error}); start from the folder that holds it, at"
            " the sweep's commit"
        ) from error


def _own(joined: Space, learner: str) -> Space:
    """One learner's part of a joined space, names without prefix: `Space.when` undone."""
    prefix = f"{learner}."
    axes = {name.removeprefix(prefix): axis for name, axis in joined.axes.items() if name.startswith(prefix)}
    conditions = {
        name.removeprefix(prefix): {p.removeprefix(prefix): v for p, v in parents.items() if p != LEARNER}
        for name, parents in joined.conditions.items()
        if name.startswith(prefix)
    }
    return Space(axes, conditions)


def _frozen(value: Any) -> Any:
    """Lists as tuples, as frozen dataclasses hold them."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
