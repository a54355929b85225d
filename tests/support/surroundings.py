"""Odd surroundings for programs: a user without a name, and modules of a person's own that no program may read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

UID = 12345
AS_NOBODY = [shutil.which("unshare") or "unshare", "-U", f"--map-user={UID}", f"--map-group={UID}"]


def nobody_is_possible() -> bool:
    """Return whether this machine lets a program run as a user without a name, home and rights."""
    return subprocess.run([*AS_NOBODY, "true"], capture_output=True, check=False).returncode == 0


def plant_modules(folder: Path, read: Path) -> None:
    """Write a module of every name of Python's own and of every installed package; who imports one appends to `read`
    and ends.

    Names of namespace packages are left out: Python takes any module in their place, wherever it lies.
    """
    installed = Path(find_spec("torch").origin).parents[1]
    packages = [one for one in installed.iterdir() if (one / "__init__.py").is_file() or one.suffix == ".py"]
    names = {name for name in sys.stdlib_module_names if name not in ("antigravity", "this") and find_spec(name)}
    names |= {one.stem for one in packages} - {"sweeps", "trainables", "search_spaces", "cluster"}
    for name in names:
        code = (
            f"open({str(read)!r}, 'a').write({name!r} + chr(10))\nraise SystemExit('{name} of the folder was read')\n"
        )
        (folder / f"{name}.py").write_text(code)
