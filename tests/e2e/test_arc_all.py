"""The benchmark of all ARC tasks as a script: what it cannot answer counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.support.arc_files import ids, recolour, task, write

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "arc_all.py"


def large() -> dict:
    """Grids of 30x30, 930 tokens each: no prompt of 512 tokens holds one."""
    grids = np.random.default_rng(0).integers(0, 10, (3, 30, 30)).tolist()
    return task([(grids[0], grids[1])], [(grids[1], grids[2])])


def test_what_does_not_fit_counts_as_unsolved(tmp_path):
    search, train = ids("search", 2), ids("train", 1)
    tasks = dict(zip(search, (recolour(), large()), strict=True)) | dict.fromkeys([*train, *ids("test", 1)], recolour())
    flags = ["--learner", "lora_ttt", "--rounds", "0", "--config.votes", "1", "--splits", "search", "--view", "0", "1"]
    command = [sys.executable, str(SCRIPT), *flags, "--task.data", write(tmp_path, tasks), "--processes", "1"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    assert printed.count("1 are too long") == printed.count("  lora_ttt: 0/2 ") == 2
    assert [line.split(":")[0] for line in printed.splitlines() if line.startswith("training")] == [
        "training, as they are",
        "training, view 1",
    ]
