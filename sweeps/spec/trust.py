"""A run's folder is data: reading it runs no code, unless `--trust` names the code on the command line.

`--trust my/learners.py` or `--trust my.learners` imports a file or module with learners and tasks of one's own.
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

from sweeps.spec.validation import BadInput, one_line

FOLDER = "folder"  # what --trust calls the run's folder
REMOTE_CODE = "remote-code"  # the option of a base that lets its repository run code
_modules: dict[str, ModuleType] = {}  # what --trust named -> the module
_allowed: set[str] = set()  # FOLDER and REMOTE_CODE, if this process may run their code


def apply_trust(names: Sequence[str], bases: Iterable[str] = ()) -> None:
    """Import the files and modules among `names` in this process.

    `bases`: those that the command line or the script names itself; if one has `remote-code`, it is allowed.
    Raises BadInput for a name that cannot be imported.
    """
    if FOLDER in names:
        _allowed.update((FOLDER, REMOTE_CODE))
    if any(_runs_code(base) for base in bases):
        _allowed.add(REMOTE_CODE)
    for name in names:
        if name != FOLDER and name not in _modules:
            try:
                _modules[name] = _imported(name)
            except BadInput:
                raise
            except Exception as error:  # whatever a user's own module raises
                raise BadInput(f"--trust {name}: importing it raises {one_line(error)}") from error


def folder_is_trusted() -> bool:
    return FOLDER in _allowed


def trusted_modules() -> list[ModuleType]:
    return list(_modules.values())


def refuse_remote_code(base: str) -> None:
    """Raise BadInput if a base that a file names would run the code of its repository, and that is not allowed."""
    if _runs_code(base) and REMOTE_CODE not in _allowed:
        raise BadInput(
            f"sweep.yaml: the base {base!r} runs code of its repository; if you trust that code, add --trust {FOLDER}"
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
                    f"--trust {name}: no such module; give one, a file (my/learners.py), or {FOLDER}"
                ) from error
            raise
    if not file.is_file():
        raise BadInput(f"--trust {name}: there is no such file")
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # so that the file can import its neighbours
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
