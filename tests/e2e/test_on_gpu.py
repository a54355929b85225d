"""`benchmarks/on_gpu.py` in miniature on a CPU: where only torch, transformers and peft are installed, and cut off."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.side_by_side import mps, side_by_side
from tests.support.bare_python import bare_python

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "benchmarks/on_gpu.py")
TINY = ("--shape", "builtin:tiny", "--trials", "1")


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    return bare_python(tmp_path / "bare")


def read(folder: Path) -> tuple[dict, list[str]]:
    written = json.loads((folder / "measurements.json").read_text())
    table = (folder / "table.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == [row["step"] for row in written["measurements"]]
    return written, table


def test_torch_transformers_and_peft_are_enough(bare, tmp_path):
    """Processes side by side inherit -S: they have no other packages either."""
    missing = "import ray"
    assert (
        "No module named 'ray'"
        in subprocess.run([sys.executable, "-S", "-c", missing], env=bare, capture_output=True, text=True).stderr
    )
    steps = ("sequential", "seats:2", "processes:1", "decoding:2", "profile:2")
    command = [sys.executable, "-S", SCRIPT, *TINY, "--out", str(tmp_path / "out"), *steps]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout.splitlines()[0])
    written, _ = read(tmp_path / "out")
    assert written["machine"] == facts
    assert {"device", "device_memory_mib", "torch", "cuda", "commit", "mps"} <= facts.keys()
    rows = {row["step"]: row for row in written["measurements"]}
    assert {row["outcome"] for row in rows.values()} == {"measured"}
    for way in ("sequential", "2 seats"):
        assert 0 < rows[way]["products_s"] < rows[way]["seconds_per_trial"]
        assert rows[way]["operations_per_step"] > 100
    assert rows["1 processes"]["seconds_per_trial"] > 0
    assert rows["2 seats, decoding"]["tokens_per_second"] > 0
    for operators in rows["2 seats, profile"]["operators"].values():
        assert "aten::mm" in operators, "no product among what takes most of the time"


def test_what_was_measured_before_a_kill_is_kept(tmp_path):
    command = [sys.executable, SCRIPT, *TINY, "--out", str(tmp_path / "out"), "decoding:1", "sequential"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            end = time.monotonic() + 300
            while not (tmp_path / "out/table.md").exists():
                assert running.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
        finally:
            running.send_signal(signal.SIGKILL)
    written, _ = read(tmp_path / "out")
    assert [(row["step"], row["outcome"]) for row in written["measurements"]] == [("1 seats, decoding", "measured")]


def test_without_time_every_step_has_a_row_that_says_so(tmp_path):
    command = [sys.executable, SCRIPT, *TINY, "--minutes", "0", "--out", str(tmp_path), "seats:2", "compiled"]
    subprocess.run(command, capture_output=True, check=True, timeout=300)
    _, table = read(tmp_path)
    assert all("skipped: 0 s are left" in line for line in table[2:])


def test_an_error_in_a_process_is_raised_and_ends_the_others():
    with pytest.raises(RuntimeError, match="process 1 of 2: ValueError: embedded null byte"):
        side_by_side("builtin:tiny", 2, 1, {"IMPOSSIBLE": "\0"})
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_noticed():
    def kill_one() -> None:
        while not (running := multiprocessing.active_children()):
            time.sleep(0.05)
        running[0].kill()

    threading.Thread(target=kill_one, daemon=True).start()
    with pytest.raises(RuntimeError, match="process 1 of 1: it died"):
        side_by_side("builtin:tiny", 1, 1, {})
    assert not multiprocessing.active_children()


def test_a_daemon_of_mps_that_is_of_no_use_is_quit(tmp_path, monkeypatch):
    """The daemon is a script that notes what it is asked; no process can reach a GPU through it."""
    control = tmp_path / "nvidia-cuda-mps-control"
    control.write_text(f'#!/bin/sh\necho "$@" $(cat) $CUDA_MPS_PIPE_DIRECTORY >> {tmp_path}/asked\n')
    control.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with mps() as (environment, about):
        assert environment == {}
        assert about.startswith("not used: ")
    first, last = (line.split() for line in (tmp_path / "asked").read_text().splitlines())
    assert (first[0], last[0]) == ("-d", "quit")
    assert first[1] == last[1]
