"""Nothing phones home unless the user says so."""

from __future__ import annotations

import os
import subprocess
import sys

SWITCHES = ("RAY_USAGE_STATS_ENABLED", "MLFLOW_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")


def after_import(**own):
    clean = {k: v for k, v in os.environ.items() if k not in SWITCHES} | own
    code = f"import sweeps.cli.main, os; print([os.environ.get(k) for k in {SWITCHES}])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean).stdout


def test_telemetry_is_off_by_default():
    assert after_import() == "['0', 'true', '1', 'true']\n"


def test_the_user_can_turn_it_on():
    assert after_import(RAY_USAGE_STATS_ENABLED="1", DO_NOT_TRACK="0") == "['1', 'true', '1', '0']\n"


def after_start(code, **own):
    """Run code after the command line was imported, as a program of its own with these variables."""
    program = [sys.executable, "-c", f"import sweeps.cli.main, os, sys, warnings; {code}"]
    return subprocess.run(program, capture_output=True, text=True, check=True, env=os.environ | own).stdout.strip()


def test_a_proxy_is_kept_out_of_connections_to_this_machine():
    code = (
        "import urllib.request as u; print(u.proxy_bypass('127.0.0.1'), u.proxy_bypass('a'), u.proxy_bypass('other'))"
    )
    proxies = {"http_proxy": "http://proxy:1", "no_proxy": "", "NO_PROXY": "a"}
    assert after_start(code, **proxies) == "True True False"


def test_what_would_end_imports_is_undone():
    """Warnings as errors, here and in other processes; removed docstrings, without which Ray cannot be imported."""
    code = "warnings.warn('x', stacklevel=1); print(repr(os.environ['PYTHONWARNINGS']), sys.flags.optimize)"
    assert (
        after_start(code, PYTHONWARNINGS="error,ignore::UserWarning", PYTHONOPTIMIZE="2") == "'ignore::UserWarning' 0"
    )
