"""A sweep that runs, looked at and steered from another process, and one that fails again and again. All real."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import ray
import yaml
from ray.exceptions import ActorDiedError

from sweeps.engine.checks import BadInput
from sweeps.engine.lock import driver, driving
from sweeps.engine.steering import clone, latest, status, stop
from sweeps.engine.stopping import Stops, cause_of
from sweeps.results.finals import candidates
from sweeps.results.run import Run
from sweeps.verbs.reproduce import open_run
from tests.driving import SCRIPT, environment, study, sweep
from trainables.core import START


def until(true, seconds=90):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    """Two trials at a time; one is stopped, one cloned; what the three commands said; the folder when all is over."""
    folder = tmp_path_factory.mktemp("steered")
    flags = ["--num-samples", "4", "--rounds", "12", "--grace-period", "12", "--set", "seconds=1", "planted=nothing"]
    log = (folder / "out.log").open("w")
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *flags], cwd=folder, env=environment(), stdout=log, stderr=log
    )
    run = folder / "runs/toy"
    try:
        until(lambda: (run / "trials.parquet").is_file() and len(Run.read(run).records) >= 2)
        until(lambda: all(one.rounds >= 1 for one in Run.read(run).records))
        yield folder, process
        process.wait(timeout=120)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        log.close()


def test_a_running_sweep_is_looked_at_stopped_and_cloned(steered, monkeypatch, capsys):
    folder, process = steered
    run = folder / "runs/toy"
    monkeypatch.chdir(folder)
    status()
    said = capsys.readouterr().out
    assert f"running (process {process.pid})" in said
    assert "2 running" in said
    assert f"trial 1: round {Run.read(run).records[1].rounds} of 12" in said

    stop("0")
    clone("1", ("quality=0.9",), run=run)
    assert "goes on from trial 1 after round" in capsys.readouterr().out
    for words, error in (
        (("1", ("quality=3",)), "outside"),
        (("1", ("speed=3",)), "axis of this trial: quality, planted, seconds"),
        (("9", ("quality=0.1",)), "no trial '9'"),
    ):
        with pytest.raises(BadInput, match=error):
            clone(*words)
    other = sweep(folder, "--name", "toy", "--resume", "--num-samples", "4", "--rounds", "12", "--grace-period", "12",
                  "--set", "seconds=1", "planted=nothing", check=False)  # fmt: skip
    assert other.returncode == 2
    assert f"is being run by process {process.pid}" in other.stderr
    until(lambda: (run / "end.yaml").is_file(), 120)
    assert process.wait(timeout=60) == 0

    left = Run.read(run)
    stopped, parent = left.records[:2]
    assert stopped.status == "pruned"
    assert stopped.rounds < 12
    assert "stopped by hand" in stopped.notes
    assert parent.status == "finished"
    (cloned,) = [one for one in left.records if START in one.params]
    start = int(Path(cloned.params[START]).stem.rpartition("-")[2])
    assert cloned.params[START].startswith("clones/"), "wherever the folder is"
    assert cloned.params["quality"] == 0.9
    assert [row["round"] for row in cloned.history] == list(range(start + 1, 13)), "rounds count on from the parent's"
    assert cloned.history[0]["score"] == round(20 * 0.9 * min(1, 0.4 + 0.2 * (start + 1))) / 20, "from its state"
    assert f"start_from=trial-1-round-{start}.pt" in (run / "leaderboard.md").read_text()
    ended = {t.user_attrs["tune_trial_id"]: t.user_attrs["ended"] for t in study(folder).trials}
    assert ended[stopped.trial_id] == "pruned"
    assert len(ended) == 4, "the clone took a place of the search's"
    assert cloned.trial_id not in [one.trial_id for one in candidates(left.records, 4, [], 12)]

    status()
    assert "runs/toy: ended; 4 of 4 trials" in capsys.readouterr().out
    with pytest.raises(BadInput, match="has ended; start another"):
        stop("1")


def test_the_same_failure_three_times_ends_the_sweep_until_it_is_mended(tmp_path):
    log = tmp_path / "rounds.log"
    log.mkdir()  # nobody can write there
    flags = ["--name", "toy", "--num-samples", "6", "--grace-period", "4", "--set", f"log={log}", "planted=nothing"]
    done = sweep(tmp_path, *flags, check=False)
    assert done.returncode == 1
    assert "stopped: the same failure 3 times in a row, IsADirectoryError: " in done.stdout
    assert len(pd.read_csv(tmp_path / "runs/toy/leaderboard.csv")) <= 3, "the budget is not burnt"
    assert list((tmp_path / "runs/toy/tune").glob("*/error.txt"))
    assert "--resume" in done.stdout

    log.rmdir()
    sweep(tmp_path, *flags, "--resume")
    left = pd.read_csv(tmp_path / "runs/toy/leaderboard.csv").status.to_list()
    assert left.count("finished") >= 5, "but for one that may have used up its restarts"
    assert {t.state.name for t in study(tmp_path).trials} <= {"COMPLETE", "FAIL"}


class Failed:
    """What the callback reads of a Tune trial."""

    def __init__(self, folder, trial_id, error):
        self.trial_id, self.pickled_error_file = trial_id, folder / f"{trial_id}.pkl"
        self.pickled_error_file.write_bytes(pickle.dumps(error))


def test_only_failures_of_their_own_count_and_only_in_a_row(tmp_path):
    def cause(*failures, well_after=None):
        stops = Stops(tmp_path, 4)
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

    stops = Stops(tmp_path, 4)
    for name in ("a", "b", "a"):
        with pytest.raises(ActorDiedError) as died:
            ray.get(Unborn.remote().pid.remote())
        stops.on_trial_recover(0, [], Failed(tmp_path, name, died.value))
    assert stops.cause == "ValueError: no base 'tiny'; give a folder or a name of the hub"


def test_a_lock_is_as_alive_as_its_process(tmp_path):
    assert driver(tmp_path) is None
    with driving(tmp_path):
        assert driver(tmp_path) == os.getpid()
        with pytest.raises(BadInput, match=f"run by process {os.getpid()}"), driving(tmp_path):
            pass
    assert driver(tmp_path) is None
    hold = (
        "import sys, time; from pathlib import Path; from sweeps.engine.lock import driving\n"
        "with driving(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], cwd=SCRIPT.parents[1], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    assert driver(tmp_path) == other.pid
    other.kill()
    other.wait()
    assert driver(tmp_path) is None


def test_the_latest_sweep_is_found(tmp_path):
    with pytest.raises(BadInput, match="there is no sweep"):
        latest(tmp_path)
    for age, name in ((20, "b"), (10, "c"), (30, "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sweep.yaml").write_text(yaml.safe_dump({}))
        os.utime(tmp_path / name / "sweep.yaml", (time.time() - age,) * 2)
    assert latest(tmp_path).name == "c"
    for age, phase in ((5, "d-cot"), (6, "d-sft")):  # a chain's phases
        (tmp_path / "d" / phase).mkdir(parents=True)
        (tmp_path / "d" / phase / "sweep.yaml").write_text(yaml.safe_dump({}))
        os.utime(tmp_path / "d" / phase / "sweep.yaml", (time.time() - age,) * 2)
    assert latest(tmp_path).name == open_run(tmp_path / "d").folder.name == "d-cot"
    with pytest.raises(BadInput, match=r"no sweep.yaml in it; .* has none; start one"):
        open_run(tmp_path / "b" / "nowhere")


def test_a_cause_is_one_line():
    assert cause_of(RuntimeError("planted\nwith details")) == "RuntimeError: planted"
    wrapped = Exception("a long trace")
    wrapped.cause = ValueError("bad rank 8")
    assert cause_of(wrapped) == "ValueError: bad rank 8"
