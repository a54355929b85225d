"""A disk that fills up under a sweep, and then is read-only: mounts of the sweep's processes, which go with them."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from sweeps.results.run_folder import Run
from tests.support.driving import SCRIPT, environment

PATIENCE_S = 3  # instead of a minute
DRIVER = f"""
import runpy, sys
from sweeps.persistence import interrupt
interrupt.DISK_WAIT_S = {PATIENCE_S}
sys.argv[0] = {str(SCRIPT)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
STEPS = """
mount -t tmpfs -o size=20m tmpfs runs || exit 99
(until grep -q "trial . started" out; do sleep 0.1; done; dd if=/dev/zero of=runs/fill bs=4k) 2> /dev/null &
{driver} > out 2> err
echo $? > status
rm runs/fill
mkdir closed
(until grep -q "trial . finished" again; do sleep 0.1; done
 mount --bind runs closed; mount -o remount,bind,ro closed; mount --bind closed runs) &
{driver} --resume > again 2>&1
echo $? >> status
umount runs
{driver} --resume > last 2>&1
echo $? >> status
cp -r runs/toy left
"""


def test_a_sweep_waits_for_room_then_ends_in_one_line_and_goes_on(tmp_path):
    """Files that were open when the disk became read-only take more: no process may remount what others write to."""
    flags = ["--num-samples", "3", "--grace-period", "4", "--name", "toy", "--no-report", "--set", "planted=nothing"]
    driver = shlex.join([sys.executable, "-c", DRIVER, *flags, "seconds=0.4"])
    (tmp_path / "runs").mkdir()
    where = environment() | {"PYTHONPATH": str(SCRIPT.parents[2])}
    unshared = ["unshare", "--mount", "sh", "-c", STEPS.format(driver=driver)]
    done = subprocess.run(unshared, cwd=tmp_path, env=where, capture_output=True, text=True, timeout=500, check=False)
    if not (tmp_path / "status").exists():
        pytest.skip(f"this user may not mount a disk: {done.stderr}")
    said, again = ((tmp_path / name).read_text() for name in ("err", "again"))
    assert (tmp_path / "status").read_text().split() == ["3", "3", "0"], said + again + (tmp_path / "last").read_text()
    assert "Traceback" not in said
    assert "; waiting\n" in said
    assert said.splitlines()[-1].startswith("toy_sweep.py: no space left in runs/toy; free some, then: ")
    assert "Traceback" not in again
    assert again.splitlines()[-1].startswith("toy_sweep.py: runs/toy cannot be written to (")
    assert [(one.status, one.rounds) for one in Run.read(tmp_path / "left").records] == [("finished", 4)] * 3
