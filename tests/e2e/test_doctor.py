"""`espalier doctor` on a healthy machine, where it starts a Ray of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sweeps.cli.doctor import CHECKS
from tests.support.driving import environment


def test_a_healthy_machine(tmp_path):
    code = "from sweeps.cli.doctor import doctor; doctor()"
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment() | root,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    assert [text[7:20].strip() for text in lines] == list(CHECKS)
    assert {text[:5].strip() for text in lines} <= {"ok", "warn"}
    assert last.startswith(f"{len(CHECKS)} checks: 0 wrong")
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
