"""Ctrl-C while Python imports, and while a plan is measured."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.support.driving import SCRIPT, environment


def test_while_python_still_imports_it_is_one_word(tmp_path):
    """Starting takes seconds, in which people press Ctrl-C because they forgot a flag."""
    arena = SCRIPT.parents[2] / "sweeps/arena.py"
    pressed = f"""
import os, runpy, signal, sys

class Press:
    def find_spec(self, name, *_):
        if name == "tyro._cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Press())
runpy.run_path({str(arena)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", pressed], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "interrupted\n")


def test_plan_says_at_once_what_it_knows_and_can_be_left_while_it_measures(tmp_path):
    planning = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--plan"], cwd=tmp_path, env=environment() | {"PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = ""
    while "until round 4" not in said and planning.poll() is None:
        said += planning.stdout.readline()
    assert "splits: train 20, search 20, test 20" in said
    planning.send_signal(signal.SIGINT)
    told = planning.communicate(timeout=60)[1]
    assert (planning.returncode, told) == (130, "\ntoy_sweep.py: interrupted\n")
