"""`espalier decide`: finalists of a finished sweep get more seeds, and the verdict is written anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.results.run_folder import Run
from tests.support.driving import command_here, sweep_here

ROOT = Path(__file__).parents[2]


@pytest.fixture
def decide(tmp_path, ray_session, monkeypatch):
    """A function that runs the command on a sweep in `tmp_path`, and trusts its learner as long as the test runs."""
    monkeypatch.setattr("sweeps.spec.trust._modules", {})
    toys = str(ROOT / "tests/support/toys.py")
    return lambda *flags: command_here(tmp_path, "decide", *flags, "--trust", toys, check=False)


def test_finalists_that_are_close_get_more_seeds(tmp_path, decide):
    flags = ["--num-samples", "2", "--rounds", "3", "--grace-period", "3", "--set", "planted=nothing", "--seed", "1"]
    out = sweep_here(tmp_path, *flags, "--finalists", "2").stdout
    assert "finalists, trained again with other seeds" in out
    before = Run.read(tmp_path / "runs/toy").confirmation
    assert before.looks
    assert max(len(one.scores) for one in before.finals) >= 2

    done = decide("runs/toy", "--minutes", "0.3")
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


def test_without_finalists_there_is_nothing_to_decide(tmp_path, decide):
    sweep_here(tmp_path, "--num-samples", "1", "--rounds", "1", "--grace-period", "1", "--set", "planted=nothing")
    done = decide()
    assert done.returncode == 2
    assert done.stderr.strip().endswith("has no finalists; finish the sweep first, with --resume if it was interrupted")
    assert len(done.stderr.strip().splitlines()) == 1
