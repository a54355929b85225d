"""Flags of a sweep script: bad input ends in one line, and a plan starts nothing."""

from __future__ import annotations

import pytest

from tests.support.driving import sweep_here


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
        (["--address", "127.0.0.1:1", "--name", "far"], "127.0.0.1:1"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, flags, words):
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
