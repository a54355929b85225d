"""Judging in a process that is killed, and gone on from."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from sweeps.commands.judging.comparisons import judge_all
from sweeps.commands.judging.verdicts import read_verdicts
from tests.support.judging_kit import ITEMS, REPLIES, Planted, longer

SLOW = """
import sys, time
from pathlib import Path
from sweeps.commands.judging.comparisons import judge_all
from tests.support.judging_kit import ITEMS, REPLIES, Planted, longer
def slow(shown):
    time.sleep(0.02)
    return longer(shown)
judge_all([Planted(slow)], REPLIES, ITEMS, Path(sys.argv[1]), at_a_time=2)
"""


def test_a_killed_process_is_gone_on_from(tmp_path):
    file, root = tmp_path / "v.jsonl", Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(file)], cwd=root, env={**os.environ, "PYTHONPATH": "."})
    try:
        while process.poll() is None and len(read_verdicts(file)) < 10:
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    done = read_verdicts(file)
    assert 10 <= len(done) < 60
    judge = Planted(longer)
    found = judge_all([judge], REPLIES, ITEMS, file, at_a_time=2)
    assert len(judge.asked) == 2 * (60 - len(done))
    assert found == judge_all([judge], REPLIES, ITEMS, tmp_path / "other.jsonl")
    assert found == read_verdicts(file)
