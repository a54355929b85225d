"""A sweep whose trials fail again and again for the same reason ends until it is mended."""

from __future__ import annotations

import pandas as pd
import pytest
import ray
from ray.exceptions import ActorDiedError

from sweeps.tuning.stopping import SweepStopper
from tests.support.driving import study, sweep_here
from tests.support.failed_trial import FailedTrial


def test_the_same_failure_three_times_ends_the_sweep_until_it_is_mended(tmp_path, ray_session):
    log = tmp_path / "rounds.log"
    log.mkdir()  # nobody can write there
    flags = ["--name", "toy", "--num-samples", "6", "--grace-period", "4", "--set", f"log={log}", "planted=nothing"]
    done = sweep_here(tmp_path, *flags, check=False)
    assert done.returncode == 1
    assert "stopped: the same failure 3 times in a row, IsADirectoryError: " in done.stdout
    assert len(pd.read_csv(tmp_path / "runs/toy/leaderboard.csv")) <= 3, "the budget is not burnt"
    assert list((tmp_path / "runs/toy/tune").glob("*/error.txt"))
    assert "--resume" in done.stdout

    log.rmdir()
    sweep_here(tmp_path, *flags, "--resume")
    left = pd.read_csv(tmp_path / "runs/toy/leaderboard.csv").status.to_list()
    assert left.count("finished") >= 5, "but for one that may have used up its restarts"
    assert {t.state.name for t in study(tmp_path).trials} <= {"COMPLETE", "FAIL"}


def test_a_sweep_in_which_every_trial_diverges_is_no_success(tmp_path, ray_session):
    flags = ["--num-samples", "2", "--grace-period", "4", "--set", "planted=nan"]
    done = sweep_here(tmp_path, *flags, check=False)
    assert done.returncode == 1, "as a shell's && expects"
    assert "every trial failed or diverged; see " in done.stdout


def test_a_set_up_that_fails_is_a_failure_of_its_own(tmp_path, ray_session):
    @ray.remote(num_cpus=0)
    class Unborn:
        def __init__(self):
            raise ValueError("no base 'tiny'; give a folder or a name of the hub")

        def pid(self):
            return 0

    stops = SweepStopper(tmp_path, 4)
    for name in ("a", "b", "a"):
        with pytest.raises(ActorDiedError) as died:
            ray.get(Unborn.remote().pid.remote())
        stops.on_trial_recover(0, [], FailedTrial(tmp_path, name, died.value))
    assert stops.cause == "ValueError: no base 'tiny'; give a folder or a name of the hub"
