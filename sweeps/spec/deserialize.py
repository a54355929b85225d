"""Reads a `Sweep` back from the facts in `sweep.yaml`.

Learners and tasks of the project are found by the name of their class, or else by their own `name` (`lora`), so a file
stays readable after a class has moved or has been renamed. A user's own class is imported by its module path.
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
from typing import Any

import trainables.learners
import trainables.tasks
from search_spaces.space import Space
from sweeps.results.trial_params import TrialParams
from sweeps.spec.checkout import ROOT
from sweeps.spec.sweep import BadInput, Sweep
from trainables.core import Pair

PACKAGES = (trainables.learners, trainables.tasks)


def rebuild(facts: Mapping[str, Any]) -> Sweep:
    """Make the sweep from the `sweep` entry of its facts.

    Raises BadInput, in one line, for a class or a field that this version of the code does not have.
    """
    plain = dict(facts["sweep"])
    commit = str(facts.get("commit") or "").removesuffix("-dirty")
    pairs, optional = (tuple(_pair(one, commit) for one in plain.pop(name)) for name in ("pairs", "optional"))
    first = tuple(TrialParams.from_flat(axes, pairs[0].learner.name) for axes in plain.pop("first", ()))
    joined = Space.from_dict(plain.pop("space"))
    names = [pair.learner.name for pair in pairs]
    space = joined if len(names) == 1 else {name: joined.branch(learner=name) for name in names}
    fields = {name: _frozen(value) for name, value in plain.items()}
    if unknown := fields.keys() - {field.name for field in dataclasses.fields(Sweep)}:
        raise BadInput(f"sweep.yaml: a sweep has no {min(unknown)!r} in this version; {_remedy(commit)}")
    return Sweep(pairs=pairs, optional=optional, first=first, space=space, **fields)


def _pair(entry: Mapping[str, Any], commit: str) -> Pair:
    return Pair(_made(entry["learner"], commit), _made(entry["task"], commit), entry["base"])


def _made(entry: Mapping[str, Any], commit: str) -> Any:
    kind = _class(entry, commit)
    known = {field.name for field in dataclasses.fields(kind) if field.init}
    if unknown := [name for name in entry["fields"] if name not in known]:
        value = entry["fields"][unknown[0]]
        raise BadInput(
            f"sweep.yaml: {kind.__name__} has no field {unknown[0]!r} in this version, and the sweep has it at"
            f" {value!r}; {_remedy(commit)}"
        )
    try:
        return kind(**{name: _frozen(value) for name, value in entry["fields"].items()})
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"sweep.yaml: {kind.__name__} refuses the fields of the sweep ({reason}); {_remedy(commit)}"
        ) from error


def _class(entry: Mapping[str, Any], commit: str) -> type:
    """Import the class of a learner or a task; the project's from where it is now, others by their module path."""
    path = entry["class"]
    module, _, name = path.rpartition(".")
    if module.startswith(tuple(f"{package.__name__}." for package in PACKAGES)):
        classes = _project_classes()
        found = classes.get(name) or classes.get(entry.get("name", ""))
        if found is None:
            raise BadInput(f"sweep.yaml: this version has no learner or task {name} ({path}); {_remedy(commit)}")
        module, name = found
    for folder in (str(ROOT), str(Path.cwd())):
        if folder not in sys.path:
            sys.path.append(folder)
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BadInput(
            f"sweep.yaml: {path} cannot be imported ({error}); start from the folder that holds it, or"
            f" {_remedy(commit)}"
        ) from error
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        raise BadInput(f"sweep.yaml: {path} is not the dataclass of a learner or a task; {_remedy(commit)}")
    return kind


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


def _remedy(commit: str) -> str:
    return f"git checkout {commit} to read it" if commit else "its commit is not recorded: use the code that made it"


def _frozen(value: Any) -> Any:
    """Turn lists into tuples, as frozen dataclasses hold them."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
