"""Ctrl-C before Tune listens and after: one line, and what there is to go on with."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeps.engine.cli import one_line_errors
from sweeps.engine.interrupt import going_on_with, in_order
from tests.driving import SCRIPT, environment


@pytest.fixture(autouse=True)
def handlers():
    """As they were."""
    numbers = (signal.SIGINT, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_while_tune_listens_the_first_ends_it_and_the_third_waits_for_nothing(capfd):
    heard = []
    with in_order():
        signal.signal(signal.SIGUSR1, lambda *_: heard.append("stop"))
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert heard == ["stop"]
    assert "stopping; everything done so far is kept\n\nstill stopping" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):  # while the end is written, too
        signal.raise_signal(signal.SIGINT)


def test_two_at_once_end_it_too(monkeypatch):
    """The second comes while the first is being told of."""
    heard, written = [], []

    def impatient(number, text):
        written.append(text)
        if len(written) == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("os.write", impatient)
    with in_order():
        signal.signal(signal.SIGUSR1, lambda *_: heard.append("stop"))
        signal.raise_signal(signal.SIGINT)
    assert (heard, len(written)) == (["stop"], 2)


def test_outside_tune_it_is_one_line_with_the_command_that_goes_on(capsys, tmp_path):
    with pytest.raises(SystemExit) as end, one_line_errors(), going_on_with("x.py --resume", tmp_path), in_order():
        signal.raise_signal(signal.SIGINT)  # Tune has not begun, and would not hear of it
    assert end.value.code == 130
    said = capsys.readouterr().err
    assert said.endswith(": interrupted; everything done so far is kept. Go on with:\n  x.py --resume\n")
    signal.raise_signal(signal.SIGINT)  # what is cleaned up is not torn


def test_it_is_the_usual_one_again_when_nobody_pressed():
    with in_order():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_while_python_still_imports_it_is_one_word(tmp_path):
    """Which takes seconds, in which people notice what they forgot."""
    arena = SCRIPT.parents[1] / "sweeps/arena.py"
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


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "full"), ValueError("database or disk is full")])
def test_a_full_disk_is_one_line_however_deep_it_is_wrapped(capsys, tmp_path, monkeypatch, fault):
    def wrapped():
        try:
            try:
                raise fault
            finally:
                raise KeyError("what cleaning up met then")
        except KeyError as error:
            raise RuntimeError("Tune's") from error

    free = {tmp_path: 0, Path(tempfile.gettempdir()): 10**9}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    with pytest.raises(SystemExit) as end, one_line_errors(), going_on_with("x.py --resume", tmp_path):
        wrapped()
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith(f": no space left in {tmp_path}; free some, then: x.py --resume\n")
    with pytest.raises(RuntimeError, match="of ours"), going_on_with("x.py --resume", tmp_path):
        raise RuntimeError("a fault of ours keeps its traceback")
