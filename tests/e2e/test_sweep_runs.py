"""One sweep with a toy learner, from end to end: every way a trial ends, and what the sweep leaves behind."""

from __future__ import annotations

import re
import shlex
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import ray
import yaml
from optuna.trial import TrialState

from sweeps.resources.ray_cluster import cluster
from tests.support.driving import environment, mlflow_runs, study, sweep_here
from trainables.bad_input import BadInput

ROOT = Path(__file__).parents[2]
FAILS_EARLY = f"""
import dataclasses, sys
sys.path.insert(0, {str(ROOT)!r})
from optuna.distributions import CategoricalDistribution
from tests.support.toy_sweep import SWEEP, main
space = SWEEP.space.replace(planted=CategoricalDistribution(("setup", "nothing")))
main(dataclasses.replace(SWEEP, space=space, grace_period=4))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, ray_session):
    """One sweep with trials of every fate, and what it printed."""
    folder = tmp_path_factory.mktemp("fates")
    log = folder / "rounds.log"
    done = sweep_here(folder, "--set", f"log={log}", "--num-samples", "9", "--seed", "7")
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


def test_a_trial_whose_score_means_little_is_marked(finished):
    folder, *_ = finished
    run = folder / "runs/toy"
    lines = [line for line in (run / "leaderboard.md").read_text().splitlines() if "planted=" in line]
    assert all(("no gradient in 1 module (ear)" in line) == ("planted=nan" in line) for line in lines)
    assert all(("50 % of completions were cut off" in line) == ("planted=kill" in line) for line in lines)
    scores = pd.read_csv(run / "leaderboard.csv").set_index("number").score
    for line in lines:
        number, ranked = int(line.split("|")[2]), "diverged" not in line and "failed" not in line
        assert ("no better than chance (10.0 %)" in line) == (scores[number] <= 0.1 and ranked), line
    with sqlite3.connect(folder / "mlflow.db") as store:
        said = [value for (value,) in store.execute("select value from tags where key = 'notes'")]
    assert any("no gradient" in value for value in said)


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
        command, cwd=folder, capture_output=True, text=True, env=environment() | {"PYTHONPATH": str(ROOT)}
    )
    assert again.returncode == 0, again.stderr
    assert f"again: {100 * config['score']:.1f} %, every answer scored the same" in again.stdout


def test_a_trial_that_fails_in_set_up_is_told_like_any_other(tmp_path):
    """Tune never says of it that it has started, and trials keep their numbers everywhere."""
    script = tmp_path / "fails_early.py"
    script.write_text(FAILS_EARLY)
    flags = ["--num-samples", "3", "--seed", "0", "--max-concurrent-trials", "1"]
    out = sweep_here(tmp_path, *flags, script=script).stdout
    trials = study(tmp_path).trials
    wanted = [(t.user_attrs["tune_trial_id"], t.user_attrs["ended"]) for t in trials]
    assert [how for _, how in wanted] == ["finished", "failed", "finished"]
    table = pd.read_csv(tmp_path / "runs/toy/leaderboard.csv").sort_values("number")
    assert list(zip(table.trial_id, table.status, strict=True)) == wanted
    assert [f"trial {n} failed" in out for n in table.number] == [how == "failed" for _, how in wanted]
    rounds = pd.read_parquet(tmp_path / "runs/toy/trials.parquet")
    assert rounds.groupby("trial_id")["status"].first().to_dict() == dict(wanted)
    children, _ = mlflow_runs(tmp_path)
    assert {trial_id: how for trial_id, (_, how) in children.items()} == dict(wanted)


def test_same_seed_same_suggestions(finished, tmp_path):
    folder, _, _ = finished
    sweep_here(tmp_path, "--num-samples", "2", "--seed", "7")
    first = [t.params["quality"] for t in study(folder).trials[:2]]
    assert [t.params["quality"] for t in study(tmp_path).trials] == first


def test_a_new_sweep_begins_where_an_earlier_one_ended(finished):
    folder, *_ = finished
    best = pd.read_csv(folder / "runs/toy/leaderboard.csv").iloc[0]
    out = sweep_here(folder, "--like", "runs/toy", "--name", "again", "--num-samples", "2", "--set", "seconds=0").stdout
    assert "like runs/toy: its best" in out
    first = study(folder, "again").trials[0].params
    assert first["quality"] == pytest.approx(best.params_quality)
    assert (
        yaml.safe_load((folder / "runs/again/sweep.yaml").read_text())["sweep"]["first"][0]["quality"]
        == first["quality"]
    )
    nothing = sweep_here(folder, "--like", "runs/nix", "--name", "third", check=False)
    assert nothing.returncode == 2
    assert "runs/nix is not a sweep's folder" in nothing.stderr
    assert not (folder / "runs/third").exists()


def test_a_ray_that_this_process_has_is_joined_and_kept(ray_session, monkeypatch):
    job = ray.get_runtime_context().get_job_id()
    with cluster(None, verbose=False) as there:
        assert (there.cores, there.nodes) == (2, 1)
    assert ray.is_initialized()
    assert ray.get_runtime_context().get_job_id() == job
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(BadInput, match=r"no Ray cluster answers at '127\.0\.0\.1:1'"), cluster(None, verbose=False):
        pass
    assert ray.is_initialized()


def test_a_taken_name_leaves_the_first_sweep_alone(finished):
    folder, _, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (folder / "runs/toy").iterdir()}
    done = sweep_here(folder, "--name", "toy", check=False)
    assert done.returncode == 2
    assert "--resume" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in (folder / "runs/toy").iterdir()} == before


def test_a_sweep_with_two_objectives_stops_nobody_and_names_the_front(tmp_path, ray_session):
    small = ["--num-samples", "3", "--rounds", "2", "--grace-period", "1", "--set", "planted=nothing"]
    out = sweep_here(tmp_path, "--objectives", "score,seconds", "--search", "nsga2", *small).stdout
    assert "Pareto front of score and seconds: trial" in out
    assert "Pareto front" in (tmp_path / "runs/toy/leaderboard.md").read_text()
    trials = study(tmp_path).trials
    assert {t.user_attrs["ended"] for t in trials} == {"finished"}, "ASHA is off"
    assert all(len(t.values) == 2 and t.values[1] >= 0 for t in trials)


def test_a_folder_that_nobody_can_make_is_one_line(tmp_path, ray_session):
    done = sweep_here(tmp_path, "--storage-path", "/proc/nowhere", check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "--storage-path" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
