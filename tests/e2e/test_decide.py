"""`espalier decide`: finalists of a finished sweep get more seeds, and the verdict is written anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sweeps.results.run_folder import Run
from tests.support.driving import environment, sweep_here

ROOT = Path(__file__).parents[2]


def decide(folder, *flags):
    return subprocess.run(
        [sys.executable, "-c", "from sweeps.cli.main import console; console()", "decide", *flags,
         "--trust", str(ROOT / "tests/support/toys.py")],
        cwd=folder, capture_output=True, text=True, env=environment() | {"PYTHONPATH": str(ROOT)}, timeout=300,
    )  # fmt: skip


def test_finalists_that_are_close_get_more_seeds(tmp_path, ray_session):
    flags = ["--num-samples", "2", "--rounds", "3", "--grace-period", "3", "--set", "planted=nothing", "--seed", "1"]
    out = sweep_here(tmp_path, *flags, "--finalists", "2").stdout
    assert "finalists, trained again with other seeds" in out
    before = Run.read(tmp_path / "runs/toy").confirmation
    assert before.looks
    assert max(len(one.scores) for one in before.finals) >= 2

    done = decide(tmp_path, "runs/toy", "--minutes", "0.3")
    if all(one.alone < 0.05 for one in before.comparisons()):
        assert done.returncode == 2
        assert "is decided: " in done.stderr
        return
    assert done.returncode == 0, done.stdout + done.stderr
    after = Run.read(tmp_path / "runs/toy").confirmation
    assert sum(len(one.scores) for one in after.finals) > sum(len(one.scores) for one in before.finals)
    assert len(after.looks) > len(before.looks)
    assert after.looks[-1].rate > before.looks[-1].rate
    assert [*after.looks[: len(before.looks)]] == [*before.looks], "error rates hold for both together"
    assert "## Finalists" in (tmp_path / "runs/toy/leaderboard.md").read_text()
    assert (tmp_path / "runs/toy/report.html").is_file()


def test_without_finalists_there_is_nothing_to_decide(tmp_path, ray_session):
    sweep_here(tmp_path, "--num-samples", "1", "--rounds", "1", "--grace-period", "1", "--set", "planted=nothing")
    done = decide(tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("has no finalists; finish the sweep first, with --resume if it was interrupted")
    assert len(done.stderr.strip().splitlines()) == 1
