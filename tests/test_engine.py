"""Sweeps from end to end with a toy learner: every way a trial ends, drivers killed for real, and bad input."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState

SCRIPT = Path(__file__).parent / "toy_sweep.py"
ROOT = SCRIPT.parents[1]


def environment():
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    return clean | {"PYTHONUNBUFFERED": "1"}


def sweep(folder, *flags, script=SCRIPT, check=True):
    """Run a sweep script from `folder`, which it fills, to its end."""
    done = subprocess.run(
        [sys.executable, str(script), *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=600,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def study(folder, name="toy"):
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/runs/{name}/optuna.db")


def mlflow_runs(folder):
    """Trials' runs as {trial id: (status, ended)}, read from the store's own tables, and the parent's status."""
    with sqlite3.connect(folder / "mlflow.db") as db:
        tags = pd.read_sql("select run_uuid, key, value from tags", db).pivot(
            index="run_uuid", columns="key", values="value"
        )
        status = dict(db.execute("select run_uuid, status from runs"))
    parents = tags["mlflow.parentRunId"].isna()
    children = {row["espalier.trial_id"]: (status[run], row["ended"]) for run, row in tags[~parents].iterrows()}
    return children, [status[run] for run in tags[parents].index]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One sweep with trials of every fate, and what it printed."""
    folder = tmp_path_factory.mktemp("fates")
    log = folder / "rounds.log"
    done = sweep(folder, "--set", f"log={log}", "--num-samples", "9", "--seed", "7")
    return folder, log, done.stdout


def test_every_way_a_trial_ends(finished):
    folder, *_ = finished
    trials = study(folder).trials
    ended = {t.user_attrs["tune_trial_id"]: t for t in trials}
    assert len(ended) == 9
    planted = Counter(t.params["planted"] for t in trials)
    assert set(planted) == {"nothing", "nan", "kill", "error"}, "the seed must draw every fate"
    for trial in trials:
        fate, how = trial.params["planted"], trial.user_attrs["ended"]
        if fate == "nan":
            assert (how, trial.state, trial.value) == ("diverged", TrialState.COMPLETE, 0.0)
        elif fate == "error":
            assert (how, trial.state) == ("failed", TrialState.FAIL)
        elif how == "pruned":
            assert trial.state == TrialState.PRUNED
            assert max(trial.intermediate_values) < 4
        else:
            assert (how, trial.state) == ("finished", TrialState.COMPLETE)
            assert sorted(trial.intermediate_values) == [1, 2, 3, 4]
    assert {"finished", "pruned"} <= {t.user_attrs["ended"] for t in trials}

    rounds = pd.read_parquet(folder / "runs/toy/trials.parquet")
    assert set(rounds["status"]) == {"finished", "pruned", "diverged", "failed"}
    statuses = rounds.groupby("trial_id")["status"].first().to_dict()
    assert statuses == {trial_id: t.user_attrs["ended"] for trial_id, t in ended.items()}
    children, parents = mlflow_runs(folder)
    assert {trial_id: how for trial_id, (_, how) in children.items()} == statuses
    wanted = {"finished": "FINISHED", "pruned": "KILLED", "diverged": "FAILED", "failed": "FAILED"}
    assert all(status == wanted[how] for status, how in children.values())
    assert parents == ["FINISHED"]


def test_a_killed_worker_goes_on_from_its_checkpoint(finished):
    folder, log, _ = finished
    killed = [t for t in study(folder).trials if t.params["planted"] == "kill"]
    for trial in killed:
        lines = [
            line.split()[1]
            for line in log.read_text().splitlines()
            if line.startswith(f"{trial.params['quality']:.6f}")
        ]
        assert lines[:3] == ["1", "2", "2"], "round 2 again, not round 1"
    restored = [row for row in (folder / "runs/toy/leaderboard.md").read_text().splitlines() if "restored" in row]
    assert sum("planted=kill" in row for row in restored) == len(killed) == 1
    assert all("planted=kill" in row or "planted=error" in row for row in restored)


def test_the_end_says_what_to_do_next(finished):
    folder, _, out = finished
    run = folder / "runs/toy"
    best = max(
        (t for t in study(folder).trials if t.user_attrs["ended"] in ("finished", "pruned")),
        key=lambda t: max(t.intermediate_values.values()),
    )
    config = yaml.safe_load((run / "best/config.yaml").read_text())
    assert config["trial_id"] == best.user_attrs["tune_trial_id"]
    assert (run / "best/rounds.txt").is_file()
    assert "leaderboard.md" in out
    assert "http://127.0.0.1:5000" in out
    facts = yaml.safe_load((run / "sweep.yaml").read_text())
    assert facts["sweep"]["num_samples"] == 9
    assert facts["versions"]["ray"]

    command = shlex.split(re.search(r"train the winner again:\n  (.*)", out).group(1))
    again = subprocess.run(
        [sys.executable, *command[1:]], cwd=folder, capture_output=True, text=True, env=environment()
    )
    assert again.returncode == 0, again.stderr
    table = pd.read_csv(folder / "runs/toy-winner/leaderboard.csv")
    assert table["score"].tolist() == [config["score"]]


def test_same_seed_same_suggestions(finished, tmp_path):
    folder, _, _ = finished
    sweep(tmp_path, "--num-samples", "2", "--seed", "7")
    first = [t.params["quality"] for t in study(folder).trials[:2]]
    assert [t.params["quality"] for t in study(tmp_path).trials] == first


def test_a_killed_driver_resumes_without_repeating(tmp_path):
    """SIGKILL in the middle; what was finished stays finished, the rest goes on from its checkpoints."""
    log = tmp_path / "rounds.log"
    flags = ["--set", f"log={log}", "planted=nothing", "seconds=0.4", "--grace-period", "4", "--name", "kill"]
    driver = subprocess.Popen(
        [sys.executable, str(SCRIPT), *flags],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: log.is_file() and len(log.read_text().splitlines()) >= 12)
    before = Counter(log.read_text().split("\n"))
    driver.kill()
    driver.wait()
    wait_for(lambda: not rays_of(driver.pid))
    assert (tmp_path / "runs/kill/leaderboard.md").is_file(), "the best so far is on disk at every moment"
    done_before = {q for q, r in map(str.split, filter(None, before)) if r == "4"}
    assert done_before

    out = sweep(tmp_path, *flags, "--resume").stdout
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


def test_ctrl_c_says_how_to_go_on(tmp_path):
    log = tmp_path / "rounds.log"
    flags = ["--set", f"log={log}", "planted=nothing", "seconds=0.4", "--grace-period", "4"]
    driver = subprocess.Popen(
        [sys.executable, str(SCRIPT), *flags],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: log.is_file() and len(log.read_text().splitlines()) >= 5)
    driver.send_signal(signal.SIGINT)
    out, _ = driver.communicate(timeout=300)
    assert driver.returncode == 130
    command = shlex.split(re.search(r"Go on with:\n  (.*)", out).group(1))
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=tmp_path, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([t for t in study(tmp_path).trials if t.state == TrialState.COMPLETE]) == 6


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--num-samples", "0"], "num_samples is 0"),
        (["--rounds", "0"], "rounds is 0"),
        (["--learner", "rola"], "learners are toy"),
        (["--set", "lr=3"], "'lr'"),
        (["--set", "quality"], "AXIS=VALUE"),
        (["--nope"], "--nope"),
        (["--num-samples", "many"], "many"),
        (["--resume", "--name", "never"], "no sweep in"),
        (["--grace-period", "9"], "9"),
        (["--name", "a/b"], "a/b"),
        (["--storage-path", "/proc/nowhere"], "--storage-path"),
        (["--address", "127.0.0.1:1", "--name", "far"], "127.0.0.1:1"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, flags, words):
    done = sweep(tmp_path, *flags, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [p.name for p in tmp_path.iterdir()] == []


def test_a_taken_name_leaves_the_first_sweep_alone(finished):
    folder, _, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (folder / "runs/toy").iterdir()}
    done = sweep(folder, "--name", "toy", check=False)
    assert done.returncode == 2
    assert "--resume" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in (folder / "runs/toy").iterdir()} == before


def test_plan_starts_nothing(tmp_path):
    out = sweep(tmp_path, "--plan").stdout
    for words in ("6 trials of up to 4 rounds", "train 20, search 20, test 20", "until round 2: 6", "MiB", "baselines"):
        assert words in out
    assert not list(tmp_path.iterdir())


def wait_for(condition, timeout_s=300):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)


def rays_of(pid):
    """Processes of the session that a driver started."""
    found = subprocess.run(["ps", "-s", str(pid), "-o", "pid="], capture_output=True, text=True, check=False)
    return found.stdout.split()
