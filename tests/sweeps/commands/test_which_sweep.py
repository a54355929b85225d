"""Which sweep `espalier stop`, `clone` and `status` act upon, if no folder is named."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sweeps.commands.steering import status
from sweeps.commands.which_sweep import meant
from sweeps.persistence.lock import driving
from tests.support.facts_kit import least_facts
from trainables.bad_input import BadInput

CODE = "from sweeps.commands.which_sweep import meant; print('meant:', meant(None))"


@pytest.fixture(autouse=True)
def sweeps(tmp_path, monkeypatch):
    """Write three sweeps, of which c was started last."""
    monkeypatch.chdir(tmp_path)
    for age, name in ((30, "a"), (20, "b"), (10, "c")):
        file = Path("runs", name, "sweep.yaml")
        file.parent.mkdir(parents=True)
        file.write_text(yaml.safe_dump(least_facts()))
        os.utime(file, (file.stat().st_mtime - age,) * 2)


def running(*names):
    stack = contextlib.ExitStack()
    for name in names:
        stack.enter_context(driving(Path("runs", name)))
    return stack


def test_the_one_that_runs_or_else_the_latest(capsys):
    assert meant(None) == Path("runs/c")
    assert meant(Path("elsewhere")) == Path("elsewhere")
    with running("a"):
        assert meant(None) == Path("runs/a")
        status()
    assert f"runs/a: running (process {os.getpid()})" in capsys.readouterr().out


def test_nobody_can_be_asked_which_of_two_is_meant():
    with running("a", "c"), pytest.raises(BadInput, match="2 sweeps run here: runs/a, runs/c; name the folder"):
        meant(None)


@pytest.mark.parametrize(("answer", "said"), [("2", "meant: runs/c"), ("a", "meant: runs/a"), ("b", "'b' is none of")])
def test_a_person_is_asked(answer, said):
    ours, theirs = pty.openpty()
    root = {"PYTHONPATH": str(Path(__file__).parents[3])}
    with running("a", "c"):
        asked = subprocess.Popen(
            [sys.executable, "-c", CODE], stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | root
        )
        os.write(ours, f"{answer}\n".encode())
        asked.wait(timeout=120)
    text = os.read(ours, 100_000).decode()
    assert "1  runs/a" in text
    assert said in text
    os.close(ours)
    os.close(theirs)
