"""Drivers that are killed or interrupted for real, and go on."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections import Counter

from optuna.trial import TrialState

from tests.support.driving import (
    SCRIPT,
    environment,
    kill,
    mlflow_runs,
    press_ctrl_c,
    slow,
    start,
    study,
    sweep_here,
    wait_for,
)


def test_a_killed_driver_resumes_without_repeating(tmp_path, ray_session):
    """SIGKILL in the middle; what was finished stays finished, the rest goes on from its checkpoints."""
    driver, flags, log = start(tmp_path, "--name", "kill", rounds=12)
    before = Counter(log.read_text().split("\n"))
    kill(driver)
    assert (tmp_path / "runs/kill/leaderboard.md").is_file(), "the best so far is on disk at every moment"
    done_before = {q for q, r in map(str.split, filter(None, before)) if r == "4"}
    assert done_before
    for copied in (tmp_path / "runs/kill/tune").glob("experiment_state-*.json"):
        copied.write_bytes(copied.read_bytes()[:100])  # Tune copies in place: a kill can tear its files

    out = sweep_here(tmp_path, *flags, "--resume").stdout
    assert "6" in out
    trials = study(tmp_path, "kill").trials
    whole = [t for t in trials if t.state == TrialState.COMPLETE]
    assert len(whole) == 6
    assert not [t for t in trials if t.state == TrialState.RUNNING]
    after = Counter(log.read_text().split("\n")) - before
    repeated = [line for line in after if line and line.split()[0] in done_before]
    assert len(repeated) <= 2, "only what ended in the last instant before the kill may run a round again"
    children, parents = mlflow_runs(tmp_path)
    assert Counter(how for _, how in children.values())["finished"] == 6
    assert "RUNNING" not in [status for status, _ in children.values()] + parents
    assert len(parents) == 1


def test_ctrl_c_says_how_to_go_on(tmp_path, ray_session):
    driver, *_ = start(tmp_path, rounds=5, stdout=subprocess.PIPE)
    driver.send_signal(signal.SIGINT)
    said = ""
    while "stopping; everything" not in said and driver.poll() is None:
        said += driver.stdout.readline()
    driver.send_signal(signal.SIGINT)  # out of impatience
    out = said + driver.communicate(timeout=300)[0]
    assert driver.returncode == 130, out
    assert "still stopping" in out
    assert "Traceback" not in out
    _, script, *flags = shlex.split(re.search(r"Go on with:\n  (.*)", out).group(1))
    sweep_here(tmp_path, *flags, script=script)
    assert len([t for t in study(tmp_path).trials if t.state == TrialState.COMPLETE]) == 6


def test_ctrl_c_among_finalists_crowns_nobody(tmp_path, ray_session):
    """One configuration is through and one is not: no comparison. `--resume` makes it, or says who fails."""
    flags, log = slow(tmp_path, "--num-samples", "2", "--finalists", "2")

    def press(printed):
        wait_for(lambda: " questions\n" in printed())
        press_ctrl_c()

    done = sweep_here(tmp_path, *flags, check=False, meanwhile=press)
    said = done.stdout + done.stderr  # where it is said depends on whether a training is running at that moment
    assert "Go on with:" in said
    assert done.returncode == 130, said
    assert not (tmp_path / "runs/toy/finalists.parquet").exists()

    log.rename(log.with_suffix(".before"))
    log.mkdir()  # nobody can write there
    out = sweep_here(tmp_path, *flags, "--name", "toy", "--resume").stdout
    assert len(re.findall(r"seed \d: failed, .*: IsADirectoryError", out)) == 2


def test_one_ctrl_c_after_the_last_trial_is_enough(tmp_path, ray_session):
    """Tune has ended and listens no more: there are no finalists, and `--resume` finds them."""
    pressed = f"""
import os, runpy, signal, sys
from sweeps.tuning.progress import Progress

def press(self, trials, **info):
    told(self, trials, **info)
    os.kill(os.getpid(), signal.SIGINT)

told, Progress.on_experiment_end = Progress.on_experiment_end, press
sys.argv[0] = {str(SCRIPT)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    flags = ["--num-samples", "2", "--finalists", "1", "--set", "planted=nothing"]
    where = environment() | {"PYTHONPATH": str(SCRIPT.parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", pressed, *flags], cwd=tmp_path, capture_output=True, text=True, env=where
    )
    assert done.returncode == 130, done.stdout + done.stderr
    assert "stopping; everything done so far is kept" in done.stderr
    assert "Traceback" not in done.stderr
    assert "finalists:" not in done.stdout
    assert "Go on with:" in done.stdout
    out = sweep_here(tmp_path, *flags, "--name", "toy", "--resume").stdout
    assert "of 20 questions\n" in out
    assert len(study(tmp_path).trials) == 2, "and no trial is trained again"
