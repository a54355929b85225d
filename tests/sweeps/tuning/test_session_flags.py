"""Flags of a sweep script: bad input ends in one line, and a plan starts nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.driving import SCRIPT, environment, sweep_here


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--num-samples", "0"], "num_samples is 0"),
        (["--rounds", "0"], "rounds is 0"),
        (["--learner", "rola"], "learners are toy"),
        (["--set", "lr=3"], "'lr'"),
        (["--set", "quality"], "AXIS=VALUE"),
        (["--nope"], "--nope"),
        (["--num-samples", "many"], "many"),
        (["--resume", "--name", "never"], "no sweep in"),
        (["--grace-period", "9"], "9"),
        (["--name", "a/b"], "a/b"),
        (["--storage-path", "/proc/nowhere"], "--storage-path"),
        (["--address", "127.0.0.1:1", "--name", "far"], "127.0.0.1:1"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, ray_session, flags, words):
    done = sweep_here(tmp_path, *flags, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [p.name for p in tmp_path.iterdir()] == []


def test_plan_starts_nothing(tmp_path):
    out = sweep_here(tmp_path, "--plan").stdout
    for words in ("6 trials of up to 4 rounds", "train 20, search 20, test 20", "until round 2: 6", "MiB", "baselines"):
        assert words in out
    assert not list(tmp_path.iterdir())


def test_a_folder_that_ray_cannot_write_to_is_named_with_its_remedy(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--no-report"],
        cwd=tmp_path,
        env=environment() | {"RAY_TMPDIR": "/proc/nowhere"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith("'/proc/nowhere'); it needs a folder to write to, which RAY_TMPDIR names, else /tmp\n")
    assert done.stderr.count("\n") == 1
