"""The commands that are printed at the end: they must run as they stand, pasted into the shell they were printed in."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.tuning.summary import resume_command
from tests.support.toy_sweep import SWEEP


@pytest.mark.parametrize("on_path", ["nothing", "another python", "ours"])
def test_the_python_that_goes_on_is_the_one_that_began(tmp_path, monkeypatch, on_path):
    """A shell without the environment may have another python, or, as Debian's, only a python3."""
    python = Path(sys.executable)
    if on_path == "another python":
        (tmp_path / python.name).symlink_to(python.resolve())  # the one that the environment was made of
    monkeypatch.setenv("PATH", str(python.parent if on_path == "ours" else tmp_path))
    monkeypatch.chdir(tmp_path)
    first, *flags = shlex.split(resume_command(SWEEP.name, Path("x.py"), ["--seed", "1"]))
    assert flags == ["x.py", "--seed", "1", "--name", "toy", "--resume"]
    assert first == (python.name if on_path == "ours" else str(python))
    said = subprocess.run([first, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True).stdout
    assert said.strip() == sys.prefix
