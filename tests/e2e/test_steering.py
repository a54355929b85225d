"""A sweep that runs, looked at and steered from another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.commands.proposing import propose
from sweeps.commands.steering import clone, status, stop
from sweeps.persistence.lock import driver, driving
from sweeps.results.finals import candidates
from sweeps.results.run_folder import Run
from tests.support.driving import SCRIPT, environment, study, sweep_here, wait_for
from tests.support.json_kit import checked
from trainables.bad_input import BadInput

FLAGS = ["--num-samples", "4", "--rounds", "12", "--grace-period", "12", "--set", "seconds=2", "planted=nothing"]


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    """Two trials at a time; one is stopped, one cloned; what the three commands said; the folder when all is over."""
    folder = tmp_path_factory.mktemp("steered")
    log = (folder / "out.log").open("w")
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *FLAGS], cwd=folder, env=environment(), stdout=log, stderr=log
    )
    run = folder / "runs/toy"
    try:
        wait_for(lambda: (run / "trials.parquet").is_file() and len(Run.read(run).records) >= 2)
        wait_for(lambda: all(one.rounds >= 1 for one in Run.read(run).records))
        yield folder, process
        process.wait(timeout=120)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        log.close()


def espalier(folder, *words):
    """What a command prints from a process of its own, which says nothing on standard error."""
    command = [sys.executable, "-c", "from sweeps.cli.main import console; console()", *words]
    path = {"PYTHONPATH": str(SCRIPT.parents[2])}
    done = subprocess.run(command, cwd=folder, env=environment() | path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_running_sweep_is_looked_at_stopped_cloned_and_given_a_proposal(steered, monkeypatch, capsys):
    folder, process = steered
    run = folder / "runs/toy"
    monkeypatch.chdir(folder)
    status()
    said = capsys.readouterr().out
    assert f"running (process {process.pid})" in said
    assert "2 running" in said
    assert f"trial 1: round {Run.read(run).records[1].rounds} of 12" in said

    stop("0")
    clone("1", ("quality=0.9",), run=run, trust=("tests.support.toys",))
    assert "goes on from trial 1 after round" in capsys.readouterr().out
    trust = ("tests.support.toys",)
    propose(run, ("quality=0.123",), trust=trust)  # before the last place is taken
    assert "is queued" in capsys.readouterr().out
    with pytest.raises(BadInput, match=r"all 4 trials of .* are taken"):
        propose(run, ("quality=0.5",), trust=trust)
    asked = checked(espalier(folder, "ask", "--json", "--trust", *trust), "ask")
    assert asked["params"].keys() >= {"quality"}
    for words, error in (
        (("1", ("quality=3",)), "outside"),
        (("1", ("speed=3",)), "axis of this trial: quality, planted, seconds"),
        (("9", ("quality=0.1",)), "no trial '9'"),
    ):
        with pytest.raises(BadInput, match=error):
            clone(*words)
    other = sweep_here(folder, "--name", "toy", "--resume", *FLAGS, check=False)
    assert other.returncode == 2
    assert f"is being run by process {process.pid}" in other.stderr
    wait_for(lambda: (run / "end.yaml").is_file(), 120)
    assert process.wait(timeout=60) == 0

    left = Run.read(run)
    stopped, parent = left.records[:2]
    assert stopped.status == "pruned"
    assert stopped.rounds < 12
    assert "stopped by hand" in stopped.notes
    assert parent.status == "finished"
    (cloned,) = [one for one in left.records if one.params.start]
    assert cloned.params.start
    start = int(Path(cloned.params.start).stem.rpartition("-")[2])
    assert cloned.params.start.startswith("clones/"), "wherever the folder is"
    assert cloned.params.fields["quality"] == 0.9
    assert [row["round"] for row in cloned.history] == list(range(start + 1, 13)), "rounds count on from the parent's"
    assert cloned.history[0]["score"] == round(20 * 0.9 * min(1, 0.4 + 0.2 * (start + 1))) / 20, "from its state"
    assert f"start_from=trial-1-round-{start}.pt" in (run / "leaderboard.md").read_text()
    ended = {t.user_attrs["tune_trial_id"]: t.user_attrs["ended"] for t in study(folder).trials}
    assert ended[stopped.trial_id] == "pruned"
    assert len(ended) == 4, "the clone took a place of the search's"
    (proposed,) = [one for one in left.records if one.params.fields["quality"] == 0.123]
    assert (proposed.status, proposed.params.fields["planted"]) == ("finished", "nothing")
    assert cloned.trial_id not in [one.trial_id for one in candidates(left.records, 4, [], 12)]

    status()
    assert "runs/toy: ended; 4 of 4 trials" in capsys.readouterr().out
    with pytest.raises(BadInput, match="has ended; start another"):
        stop("1")


def test_a_lock_is_as_alive_as_its_process(tmp_path):
    assert driver(tmp_path) is None
    with driving(tmp_path):
        assert driver(tmp_path) == os.getpid()
        with pytest.raises(BadInput, match=f"run by process {os.getpid()}"), driving(tmp_path):
            pass
    assert driver(tmp_path) is None
    hold = (
        "import sys, time; from pathlib import Path; from sweeps.persistence.lock import driving\n"
        "with driving(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], cwd=SCRIPT.parents[2], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    assert driver(tmp_path) == other.pid
    other.kill()
    other.wait()
    assert driver(tmp_path) is None
