"""A run's folder is data: reading it runs no code, unless `--trust` names the code on the command line.

`--trust my/learners.py` or `--trust my.learners` imports a file or module with learners and tasks of one's own. A file
may also hold the function by which a task scores.
`--trust folder` says that the run's folder is one's own: `--resume` may unpickle its snapshot although another machine
made it, and a base that it names may bring code of its own (`remote-code`).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from trainables.bad_input import BadInput, one_line
from trainables.core import Pair, Task
from trainables.tasks.own.user_function import is_trusted, trust_file

FOLDER = "folder"  # what --trust calls the run's folder
REMOTE_CODE = "remote-code"  # the option of a base that lets its repository run code
OWN = ("trainables.learners.", "trainables.tasks.")  # the modules whose classes a folder may name without --trust
_modules: dict[str, ModuleType] = {}  # what --trust named -> the module
_allowed: set[str] = set()  # FOLDER and REMOTE_CODE, if this process may run their code


def apply_trust(names: Sequence[str], pairs: Iterable[Pair] = ()) -> None:
    """Import the files and modules among `names` in this process.

    `pairs`: those that the command line or the script names itself. A base of theirs with `remote-code` is allowed, and
    so is a user's own code that scores. Raises BadInput for a name that cannot be imported.
    """
    if FOLDER in names:
        _allowed.update((FOLDER, REMOTE_CODE))
    for pair in pairs:
        if _runs_code(pair.base):
            _allowed.add(REMOTE_CODE)
        for file in pair.task.user_code_files():
            _trust_to_score(file)
    for name in names:
        if name != FOLDER and name not in _modules:
            try:
                _modules[name] = _imported(name)
            except BadInput:
                raise
            except (Exception, SystemExit) as error:  # whatever a user's own module raises
                raise BadInput(f"--trust {name}:", f"importing it raises {one_line(error)}") from error


def trust_flags(pairs: Iterable[Pair], script: Path) -> list[str]:
    """Return the `--trust` that commands on the folder of a sweep of `pairs` need; an empty list if they need none.

    It names the files of learners and tasks that are not Espalier's (`script` for those of the running script), and
    FOLDER if a base brings code of its own.
    """
    needed: list[str] = []
    for pair in pairs:
        modules = [type(part).__module__ for part in (pair.learner, pair.task)]
        needed += [_file_of(module, script) for module in modules if not module.startswith(OWN)]
        needed += [_from_here(Path(file)) for file in pair.task.user_code_files()]
        needed += [FOLDER] if _runs_code(pair.base) else []
    return ["--trust", *dict.fromkeys(needed)] if needed else []


def without_trust(argv: Sequence[str]) -> list[str]:
    """Return a command line without `--trust` and its names: one that a folder records is no reason to trust it."""
    kept: list[str] = []
    inside = False
    for word in argv:
        inside = word.partition("=")[0] == "--trust" or (inside and not word.startswith("--"))
        kept += [] if inside else [word]
    return kept


def _file_of(module: str, script: Path) -> str:
    """Return the file of a loaded module, from the present folder if it lies below it."""
    return _from_here(
        Path(script if module == "__main__" else getattr(sys.modules[module], "__file__", None) or module)
    )


def _from_here(file: Path) -> str:
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


def folder_is_trusted() -> bool:
    return FOLDER in _allowed


def trusted_modules() -> list[ModuleType]:
    return list(_modules.values())


def refuse_remote_code(base: str) -> None:
    """Raise BadInput if a base that a file names would run the code of its repository, and that is not allowed."""
    if _runs_code(base) and REMOTE_CODE not in _allowed:
        raise BadInput(
            "sweep.yaml:",
            f"the base {base!r} runs code of its repository",
            f"if you trust that code, add --trust {FOLDER}",
        )


def refuse_user_code(task: Task) -> None:
    """Raise BadInput if a task that a file names scores by a user's own code, and that is not allowed."""
    for file in task.user_code_files():
        if not is_trusted(file):
            raise BadInput(
                "sweep.yaml:",
                f"answers are scored by a function of {file}",
                f"if you trust that code, add --trust {file}",
            )


def _runs_code(base: str) -> bool:
    return REMOTE_CODE in base.split(":")[1:]


def _imported(name: str) -> ModuleType:
    file = Path(name)
    if file.suffix != ".py":
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and name.startswith(error.name):
                raise BadInput(
                    f"--trust {name}:", "no such module", f"give one, a file (my/learners.py), or {FOLDER}"
                ) from error
            raise
    if not file.is_file():
        raise BadInput(f"--trust {name}:", "there is no such file")
    _trust_to_score(name)
    name, folder = _dotted(file.resolve())
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # so that the file can import its neighbours
    if "." in name:  # in a package: its relative imports need it
        module = importlib.import_module(name)
        if not file.samefile(module.__file__ or ""):
            raise BadInput(
                f"--trust {file}:", f"{name} is {module.__file__}, which comes first in the search for modules"
            )
        return module
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _trust_to_score(file: str) -> None:
    try:
        trust_file(file)
    except ValueError as error:  # of a task
        raise BadInput(one_line(error)) from error


def _dotted(file: Path) -> tuple[str, Path]:
    """Return a file's name as a module, with its packages (`my.learners`), and the folder that holds all of these."""
    name, folder = file.stem, file.parent
    while (folder / "__init__.py").is_file():
        name, folder = f"{folder.name}.{name}", folder.parent
    return name, folder
