"""Reads a `Sweep` back from the facts in `sweep.yaml`.

Learners and tasks of the project are found by the name of their class, or else by their own `name` (`lora`), so a file
stays readable after a class has moved or has been renamed. A user's own class must have been imported: by the script
that runs, or by `--trust`.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import sys
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import trainables.learners
import trainables.tasks
from search_spaces.axis import SpaceError
from search_spaces.space import Space
from sweeps.results.pareto import OBJECTIVES
from sweeps.results.trial_params import Observation, TrialParams
from sweeps.spec.earlier_looks import EarlierLooks
from sweeps.spec.field_types import check_types
from sweeps.spec.sweep import Sweep
from sweeps.spec.trust import OWN, refuse_remote_code, trusted_modules
from sweeps.spec.validation import check_label, check_numbers
from trainables.bad_input import BadInput
from trainables.core import LearnerConfig, Pair, Task

PACKAGES = (trainables.learners, trainables.tasks)


def rebuild(facts: Mapping[str, Any], remote_code: bool = False) -> Sweep:
    """Make the sweep from the `sweep` entry of its facts.

    `remote_code`: allow bases that run code of their own, because the command line says so or no base is loaded.
    Raises BadInput, in one line, for such a base, and for a class or a field that this version of the code lacks.
    """
    plain = dict(facts["sweep"])
    pairs, optional = (tuple(_pair(one, facts) for one in plain.pop(name, ())) for name in ("pairs", "optional"))
    for pair in (*pairs, *optional) if not remote_code else ():
        refuse_remote_code(pair.base)
    first = tuple(TrialParams.from_flat(axes, pairs[0].name) for axes in plain.pop("first", ()))
    observations = _observations(plain.pop("observations", ()), pairs[0].name, facts)
    earlier = EarlierLooks(**plain.pop("earlier", {}))
    names = [pair.name for pair in pairs]
    try:
        joined = Space.from_dict(plain.pop("space"))
        space = joined if len(names) == 1 else {name: joined.branch(learner=name) for name in names}
    except SpaceError as error:
        raise BadInput("sweep.yaml:", str(error), _remedy(facts)) from error
    fields = {name: _frozen(value) for name, value in plain.items()}
    if unknown := fields.keys() - {field.name for field in dataclasses.fields(Sweep)}:
        raise BadInput("sweep.yaml:", f"a sweep has no {min(unknown)!r} in this version", _remedy(facts))
    try:
        check_types(Sweep, fields)
        sweep = Sweep(pairs=pairs, optional=optional, first=first, space=space, observations=observations, **fields)
        check_numbers(sweep, OBJECTIVES)
    except BadInput as error:
        raise BadInput(f"sweep.yaml: {error}; {_remedy(facts)}") from error
    return sweep.after_looks(earlier) if earlier.count else sweep


def _observations(entries: Any, only: str, facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    try:
        return tuple(Observation(TrialParams.from_flat(axes, only), float(rank)) for axes, rank in entries)
    except (TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            "sweep.yaml:",
            f"observations are {str(entries)[:80]!r}, no pairs of a configuration and a rank",
            _remedy(facts),
        ) from error


def _pair(entry: Mapping[str, Any], facts: Mapping[str, Any]) -> Pair:
    learner, task = _made(entry["learner"], LearnerConfig, facts), _made(entry["task"], Task, facts)
    label = str(entry.get("label", ""))
    try:
        check_label(label)
    except BadInput as error:
        raise BadInput("sweep.yaml:", str(error)) from error
    return Pair(learner, task, str(entry["base"]), label)


def _made(entry: Mapping[str, Any], base_class: type, facts: Mapping[str, Any]) -> Any:
    kind = _class(entry, base_class, facts)
    known = {field.name for field in dataclasses.fields(kind) if field.init}
    if unknown := [name for name in entry["fields"] if name not in known]:
        value = entry["fields"][unknown[0]]
        raise BadInput(
            "sweep.yaml:",
            f"{kind.__name__} has no field {unknown[0]!r} in this version, and the sweep has it at {value!r}",
            _remedy(facts),
        )
    fields = {name: _frozen(value) for name, value in entry["fields"].items()}
    try:
        check_types(kind, fields)
        return kind(**fields)
    except (TypeError, ValueError, ArithmeticError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            "sweep.yaml:", f"{kind.__name__} refuses the fields of the sweep ({reason})", _remedy(facts)
        ) from error


def _class(entry: Mapping[str, Any], kind: type, facts: Mapping[str, Any]) -> type:
    """Return the class of a learner or a task (`kind`): the project's from where it is now, or a loaded one.

    A file never causes an import outside the project: a user's own class must be in this process already.
    """
    path = str(entry["class"])
    module, _, name = path.rpartition(".")
    if path.startswith(OWN):
        classes = _project_classes()
        place = classes.get(name) or classes.get(str(entry.get("name", "")))
        found = getattr(importlib.import_module(place[0]), place[1]) if place else None
    else:
        loaded = [sys.modules.get(module), *trusted_modules()]
        named = (vars(one).get(name) for one in loaded if one is not None)
        found = next((one for one in named if _is_config(one, kind)), None)
        if found is None:
            raise BadInput(_own_class(path, facts))
    if not _is_config(found, kind):
        raise BadInput("sweep.yaml:", f"this version has no learner or task {name} ({path})", _remedy(facts))
    return cast(type, found)


def _is_config(value: Any, kind: type) -> bool:
    return isinstance(value, type) and issubclass(value, kind) and dataclasses.is_dataclass(value)


def _own_class(path: str, facts: Mapping[str, Any]) -> str:
    """Return the message for a class that is not the project's and that no module in this process has."""
    module, _, name = path.rpartition(".")
    script, *_ = facts.get("command") or ["path/to/file.py"]
    file = script if module == "__main__" else f"{module.replace('.', '/')}.py"
    return (
        f"sweep.yaml: class {name} comes from module {module}, which is not Espalier's; if you trust that code, add"
        f" --trust {file}"
    )


@cache
def _project_classes() -> dict[str, tuple[str, str]]:
    """Map the name of each class, and the `name` of each learner and task, to its module and class.

    This reads source files and imports packages only, as many modules import torch.
    """
    found: dict[str, tuple[str, str]] = {}
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            spec = None if module.ispkg else find_spec(module.name)
            if spec is None or spec.origin is None:
                continue
            for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    for name in (node.name, *_public_name(node)):
                        found.setdefault(name, (module.name, node.name))
    return found


def _public_name(node: ast.ClassDef) -> list[str]:
    """Return the value of `name: ClassVar[str] = "..."` in a class."""
    return [
        line.value.value
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.target.id == "name"
        if isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
    ]


def _remedy(facts: Mapping[str, Any]) -> str:
    commit = str(facts.get("commit") or "").removesuffix("-dirty")
    return f"git checkout {commit} to read it" if commit else "its commit is not recorded: use the code that made it"


def _frozen(value: Any) -> Any:
    """Turn lists into tuples, as frozen dataclasses hold them."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
