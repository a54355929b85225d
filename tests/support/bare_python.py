"""A Python that has torch, transformers and peft, and what these need, and nothing else."""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def bare_python(folder: Path) -> dict[str, str]:
    """Return the variables of such a Python, to be started with -S; links to the packages are put into `folder`."""
    folder.mkdir()
    for name in {one for package in ("torch", "transformers", "peft") for one in _requirements(package, set())}:
        installed = distribution(name)
        for top in {path.parts[0] for path in installed.files or [] if path.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(installed.locate_file(top))).resolve())
    return os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def _requirements(name: str, found: set[str]) -> set[str]:
    """Add a distribution and all that it needs to `found`, extras left out."""
    try:
        needs = distribution(name).requires or []
    except PackageNotFoundError:
        return found  # for another platform
    found.add(name)
    for need in needs:
        child = re.match(r"[\w.-]+", need)
        if "extra ==" not in need and child and child.group().lower() not in {one.lower() for one in found}:
            _requirements(child.group(), found)
    return found
