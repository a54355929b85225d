"""The untouched base is measured with the device that a trial would have."""

from __future__ import annotations

import os
import subprocess
import sys


def test_measuring_has_the_device_that_a_trial_has():
    code = "from tests.support.device_kit import told; told()"
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment | {"PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("devices:")] == ["devices: none", "devices: 0"]
