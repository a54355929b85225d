"""Drives sweep scripts as a person would, in this process or in one of their own, and reads what they leave behind."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import runpy
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import optuna
import pandas as pd

from sweeps.persistence.study import storage_of
from sweeps.resources.environment import quieten
from sweeps.spec.error_policy import Status

SCRIPT = Path(__file__).parent / "toy_sweep.py"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
MINIATURES = {
    "arena": ["--num-samples", "4", "--rounds", "2", "--grace-period", "1", "--finalists", "1", "--set",
              "steps_per_round=4", "--task.train-size", "40", "--task.search-size", "30", "--task.test-size", "30"],
    "arc": ["--num-samples", "2", "--learner", "percell", "ensemble", "--rounds", "2", "--set", "steps_per_round=2",
            "--task.max-side", "4", "--finalists", "1"],
    "style": ["--num-samples", "2", "--rounds", "2", "--grace-period", "1", "--finalists", "1", "--set",
              "rounds_per_epoch=1", "forgetting_size=10", "--task.train-size", "32", "--task.search-size", "30",
              "--task.test-size", "30"],
    "strategyqa": ["--num-samples", "2", "--rounds", "1", "--finalists", "1", "--phase", "sft",
                   "cot", "--set", "steps_per_round=4", "max_new_tokens=24", "--task.train-size", "64",
                   "--task.search-size", "30", "--task.test-size", "30"],
    "own": ["--num-samples", "3", "--rounds", "2", "--grace-period", "1", "--finalists", "1", "--set",
            "steps_per_round=4", "--base", "builtin:tiny", "--data", str(SCRIPT.parents[1] / "golden/questions.csv")],
    "reasoning": ["--num-samples", "3", "--rounds", "1", "--finalists", "1", "--set", "steps_per_round=4", "--base",
                  "builtin:tiny", "--task.train-size", "60", "--task.search-size", "30", "--task.test-size", "30"],
    "rl": ["--num-samples", "2", "--rounds", "2", "--grace-period", "1", "--finalists", "1", "--set",
           "steps_per_round=2", "per_device_train_batch_size=8", "--task.train-size", "40", "--task.search-size", "30",
           "--task.test-size", "30"],
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


def sweep_here(folder, *flags, script=SCRIPT, check=True, report=False, meanwhile=None):
    """What `sweep` does, in this process: much faster, and in the Ray that runs here (see `ray_session`), if one does.

    `meanwhile` is called in a thread of its own, with a function that returns what has been printed so far.
    """
    return script_here(folder, script, *flags, *([] if report else ["--no-report"]), check=check, meanwhile=meanwhile)


def script_here(folder, script, *flags, check=True, meanwhile=None):
    """Run any script from `folder`, in this process."""
    run = partial(runpy.run_path, str(script), run_name="__main__")
    return _here(folder, [str(script), *flags], run, check, meanwhile)


def press_ctrl_c():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def command_here(folder, *words, check=True):
    """Run `espalier WORDS` from `folder`, in this process and in the Ray that runs here, if one does."""
    from sweeps.cli.main import console  # here: it sets variables that Ray reads when it is imported

    return _here(folder, ["espalier", *words], console, check)


def _here(folder, argv, run, check, meanwhile=None):
    """Call `run` as a program's main function. What it leaves in this process (folder, arguments, environment, signals'
    handlers) is as it was before, and so are Ray's cores."""
    kept_argv, kept, handlers = sys.argv, dict(os.environ), [signal.getsignal(number) for number in SIGNALS]
    said, erred, status, free = io.StringIO(), io.StringIO(), 0, _free_cores()
    beside = threading.Thread(target=meanwhile or (lambda printed: None), args=(said.getvalue,), daemon=True)
    sys.argv = argv
    for name in os.environ.keys() - environment().keys():
        del os.environ[name]
    quieten()  # a process of its own does so when it imports the command line; here that is imported once
    beside.start()
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(erred):
            run()
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.argv = kept_argv
        os.environ.clear()
        os.environ.update(kept)
        for number, handler in zip(SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
        gc.collect()
    done = subprocess.CompletedProcess(argv, status, said.getvalue(), erred.getvalue())
    assert not check or done.returncode == 0, done.stdout + done.stderr
    if free is not None and status != Status.BAD_INPUT:  # which comes before anything has started
        wait_for(lambda: _free_cores() >= free, timeout_s=60)  # nothing stays behind
    return done


def _free_cores():
    """Return the free cores of the Ray that this process is connected to; None if there is none."""
    ray = sys.modules.get("ray")
    return ray.available_resources().get("CPU", 0.0) if ray and ray.is_initialized() else None


def start(folder, *more, rounds, stdout=subprocess.DEVNULL, script=SCRIPT):
    """A driver of slow trials after so many rounds of theirs; its flags and log."""
    flags, log = slow(folder, *more)
    driver = subprocess.Popen(
        [sys.executable, str(script), *flags],
        cwd=folder,
        env=environment(),
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: rounds_in(log) >= rounds)
    return driver, flags, log


def slow(folder, *more):
    """Flags for slow trials, none of which fails or is pruned, and the log of their rounds."""
    log = folder / "rounds.log"
    return ["--set", f"log={log}", "planted=nothing", "seconds=0.4", "--grace-period", "4", *more], log


def rounds_in(log):
    return len(log.read_text().splitlines()) if log.is_file() else 0


def wait_for(condition, timeout_s=300):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)


def kill(driver):
    driver.kill()
    driver.wait()
    for pid in rays_of(driver.pid):  # by themselves, Ray's processes notice after a minute
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    wait_for(lambda: not rays_of(driver.pid))


def rays_of(pid):
    """Processes of the session that a driver started."""
    found = subprocess.run(["ps", "-s", str(pid), "-o", "pid="], capture_output=True, text=True, check=False)
    return found.stdout.split()


def contents(folder):
    """Every file below a folder, by its path from there."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def study(folder, name="toy"):
    return study_in(folder / "runs" / name)


def study_in(run):
    """The study in a sweep's own folder, which has its name."""
    return optuna.load_study(study_name=run.name, storage=storage_of(run))


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
