"""Whoever reads a command's output may go away, in real processes: the command goes on and ends as it would have."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from sweeps.cli.output import lasting_output
from sweeps.results.terminal import print

with lasting_output():
    file = open("database", "w")
    print("begin", flush=True)
    sys.stdin.readline()
    for number in range(20_000):
        print(number)
        print(number, file=sys.stderr, flush=True)
    print("unflushed", end="")
    file.write(f"end {file.fileno()}")
"""


def start(folder: Path, **streams: object) -> subprocess.Popen[bytes]:
    where = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=folder, env=where, stdin=subprocess.PIPE, **streams)


def test_a_reader_that_goes_away_ends_nothing(tmp_path):
    process = start(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"begin\n"
    process.stdout.close()
    process.stderr.close()
    process.stdin.close()
    assert process.wait(60) == 0, "120 would say that Python could not flush at its end"
    assert (tmp_path / "database").read_text().startswith("end")


def test_a_terminal_that_vanishes_ends_nothing(tmp_path):
    own, terminal = pty.openpty()
    process = start(tmp_path, stdout=terminal, stderr=terminal)
    os.close(terminal)
    assert b"begin" in os.read(own, 100)
    os.close(own)  # every write fails with EIO from now on
    process.stdin.close()
    assert process.wait(60) == 0
    assert (tmp_path / "database").read_text().startswith("end")


def test_a_full_disk_under_a_log_ends_nothing(tmp_path):
    with open("/dev/full", "w") as full:
        process = start(tmp_path, stdout=full, stderr=full)
    process.stdin.close()
    assert process.wait(60) == 0


def test_closed_streams_do_not_write_into_a_database(tmp_path):
    """The first file that a process opens gets the number of a closed descriptor, as 2, to which errors are written."""
    where = os.environ | {"PYTHONPATH": str(ROOT)}
    command = f"'{sys.executable}' -c '{PROGRAM}' <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, env=where, check=False).returncode == 0
    said = (tmp_path / "database").read_text()
    assert said.startswith("end ")
    assert int(said.split()[1]) > 2


@pytest.mark.parametrize("how", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_character_that_the_encoding_lacks_is_an_escape(how):
    program = "from sweeps.cli.output import lasting_output\nwith lasting_output(): print('\\u2588 \\xb1')"
    where = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONCOERCECLOCALE": "0"} | how
    done = subprocess.run([sys.executable, "-c", program], env=where, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"\\u2588 \\xb1\n"), done.stderr


def test_what_is_printed_arrives_as_without_it(tmp_path):
    program = "import sys\nfrom sweeps.cli.output import lasting_output\nwith lasting_output(): print('é', end='')"
    where = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", program], env=where, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "é".encode(), b"")
