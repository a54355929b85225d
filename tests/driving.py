"""Drives sweep scripts as a person would, each in a process of its own, and reads what they leave behind."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd

SCRIPT = Path(__file__).parent / "toy_sweep.py"
MINIATURES = {
    "arena": ["--num-samples", "4", "--rounds", "2", "--grace-period", "1", "--finalists", "1", "--set",
              "steps_per_round=4", "--task.train-size", "40", "--task.search-size", "30", "--task.test-size", "30"],
    "arc": ["--num-samples", "2", "--learner", "percell", "efe", "--rounds", "2", "--set", "steps_per_round=2",
            "--task.max-side", "4", "--finalists", "1"],
    "style": ["--num-samples", "2", "--rounds", "2", "--grace-period", "1", "--finalists", "1", "--set",
              "rounds_per_epoch=1", "forgetting_size=10", "--task.train-size", "32", "--task.search-size", "30",
              "--task.test-size", "30"],
    "strategyqa": ["--num-samples", "2", "--rounds", "2", "--grace-period", "1", "--finalists", "1", "--phase", "sft",
                   "cot", "--set", "steps_per_round=4", "max_new_tokens=24", "--task.train-size", "64",
                   "--task.search-size", "30", "--task.test-size", "30"],
}  # fmt: skip


def environment():
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    return clean | {"PYTHONUNBUFFERED": "1"}


def sweep(folder, *flags, script=SCRIPT, check=True, report=False):
    """Run a sweep script from `folder`, which it fills, to its end; a report takes seconds more."""
    done = subprocess.run(
        [sys.executable, str(script), *flags, *([] if report else ["--no-report"])],
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
