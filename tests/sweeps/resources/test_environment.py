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
