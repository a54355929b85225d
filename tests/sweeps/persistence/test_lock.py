"""The lock of a sweep: reading it neither takes it nor shows anything but its owner. Real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweeps.persistence.lock import LOCK_FILE, driver, driving
from trainables.bad_input import BadInput

TIMES = 400


@contextmanager
def beside(tmp_path: Path, *lines: str) -> Iterator[subprocess.Popen[str]]:
    """Another process at these lines of Python, with the sweep's folder as `folder`, once it has said that it is up."""
    code = "import sys, time\nfrom pathlib import Path\nfrom sweeps.persistence.lock import driver, driving\n"
    code += "folder = Path(sys.argv[1])\nprint('up', flush=True)\n" + "\n".join(lines)
    call = [sys.executable, "-c", code, str(tmp_path)]
    other = subprocess.Popen(call, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "up\n"
    try:
        yield other
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_a_sweep_starts_while_others_look_at_it(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()
    with beside(tmp_path, "while True: driver(folder)"):
        for _ in range(TIMES):
            with driving(tmp_path):
                pass


def test_who_looks_sees_the_owner_or_nobody(tmp_path: Path) -> None:
    """Also at the moment when the lock is taken, and when an earlier owner was another process."""
    (tmp_path / LOCK_FILE).write_text("1")
    with beside(tmp_path, "while True:", "    with driving(folder): pass") as owner:
        seen = {driver(tmp_path) for _ in range(50 * TIMES)}
    assert seen == {None, owner.pid}


def test_several_look_at_once(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()
    with beside(tmp_path, "while True: driver(folder)"):
        assert {driver(tmp_path) for _ in range(10 * TIMES)} == {None}


def test_one_of_several_that_start_at_once_drives(tmp_path: Path) -> None:
    with beside(tmp_path, "with driving(folder): print('held', flush=True); time.sleep(60)") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(BadInput, match=f"is being run by process {first.pid}; wait"), driving(tmp_path):
            pass
        assert driver(tmp_path) == first.pid
    with driving(tmp_path):
        assert driver(tmp_path) == os.getpid()
    assert driver(tmp_path) is None
