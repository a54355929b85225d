"""A sweep that fails again and again ends until it is mended; and which sweep is the latest."""

from __future__ import annotations

import os
import pickle
import time

import pandas as pd
import pytest
import ray
import yaml
from ray.exceptions import ActorDiedError

from sweeps.commands.steering import latest
from sweeps.spec.open_run import open_run
from sweeps.spec.validation import BadInput
from sweeps.tuning.stopping import SweepStopper, cause_of
from tests.support.driving import study, sweep_here
from tests.support.facts_kit import least_facts


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


class Failed:
    """The attributes of a Tune trial that the callback reads."""

    def __init__(self, folder, trial_id, error):
        self.trial_id, self.pickled_error_file = trial_id, folder / f"{trial_id}.pkl"
        self.pickled_error_file.write_bytes(pickle.dumps(error))


def test_only_failures_of_their_own_count_and_only_in_a_row(tmp_path):
    def cause(*failures, well_after=None):
        stops = SweepStopper(tmp_path, 4)
        for number, (trial_id, error) in enumerate(failures):
            stops.on_trial_recover(0, [], Failed(tmp_path, trial_id, error))
            if number == well_after:
                stops.on_trial_complete(0, [], None)
        return stops.cause

    rank = [("a", ValueError("rank 8 is bad")), ("b", ValueError("rank 9 is bad")), ("a", ValueError("rank 8 is bad"))]
    assert cause(*rank) == "ValueError: rank 8 is bad"
    assert cause(*rank[:2]) is None
    assert cause(*rank, well_after=1) is None, "one ended well in between"
    assert cause(*rank[:2], ("c", ValueError("another"))) is None
    assert cause(*[("a", ValueError("rank 8 is bad"))] * 4) is None, "a single trial may be odd"
    assert cause(*[(name, ActorDiedError()) for name in "abcd"]) is None, "a node that dies takes all its trials along"


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
        stops.on_trial_recover(0, [], Failed(tmp_path, name, died.value))
    assert stops.cause == "ValueError: no base 'tiny'; give a folder or a name of the hub"


def test_the_latest_sweep_is_found(tmp_path):
    with pytest.raises(BadInput, match="there is no sweep"):
        latest(tmp_path)
    for age, name in ((20, "b"), (10, "c"), (30, "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sweep.yaml").write_text(yaml.safe_dump(least_facts()))
        os.utime(tmp_path / name / "sweep.yaml", (time.time() - age,) * 2)
    assert latest(tmp_path).name == "c"
    for age, phase in ((5, "d-cot"), (6, "d-sft")):  # a chain's phases
        (tmp_path / "d" / phase).mkdir(parents=True)
        (tmp_path / "d" / phase / "sweep.yaml").write_text(yaml.safe_dump(least_facts()))
        os.utime(tmp_path / "d" / phase / "sweep.yaml", (time.time() - age,) * 2)
    assert latest(tmp_path).name == open_run(tmp_path / "d").folder.name == "d-cot"
    with pytest.raises(BadInput, match=r"no sweep.yaml in it; .* has none; start one"):
        open_run(tmp_path / "b" / "nowhere")


def test_a_cause_is_one_line():
    assert cause_of(RuntimeError("planted\nwith details")) == "RuntimeError: planted"
    wrapped = Exception("a long trace")
    wrapped.cause = ValueError("bad rank 8")
    assert cause_of(wrapped) == "ValueError: bad rank 8"
