"""A search ends before its number of trials where further ones would hardly find anything better, and says so."""

from __future__ import annotations

from sweeps.results.run_folder import Run
from tests.support.driving import sweep_here

# All trials are alike: no further one can be much better.
FLAGS = ["--set", "planted=nothing", "quality=0.9", "--rounds", "1", "--finalists", "1"]


def test_a_search_without_anything_to_find_ends_and_confirms_what_it_has(tmp_path, ray_session):
    done = sweep_here(tmp_path, *FLAGS, "--num-samples", "30")
    run = tmp_path / "runs/toy"
    left = Run.read(run)
    started = len(left.records)
    assert 10 <= started <= 15
    said = f"the search ended after {started} of 30 trials"
    assert said in done.stdout
    assert said in (run / "leaderboard.md").read_text()
    assert {one.status for one in left.records} == {"finished"}
    assert left.confirmation.finals
    assert not left.end["interrupted"]

    sweep_here(tmp_path, *FLAGS, "--num-samples", "30", "--name", "toy", "--resume")
    again = Run.read(run)
    assert [one.trial_id for one in again.records] == [one.trial_id for one in left.records], "it stays over"
    assert said in (run / "leaderboard.md").read_text()
    flags = [*FLAGS, "--num-samples", "30", "--name", "toy", "--resume", "--all-trials"]
    refused = sweep_here(tmp_path, *flags, check=False)
    assert refused.returncode == 2
    assert "--all-trials: the finalists of runs/toy are trained already" in refused.stderr

    done = sweep_here(tmp_path, *FLAGS, "--num-samples", "16", "--all-trials", "--name", "all")
    assert "the search ended" not in done.stdout
    assert len(Run.read(tmp_path / "runs/all").records) == 16
