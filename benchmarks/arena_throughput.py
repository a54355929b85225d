"""Trials per minute of the arena sweep on this machine, start-up included and excluded.

    python benchmarks/arena_throughput.py [--trials 12]

Runs `sweeps/arena.py` with ASHA and its own defaults in a folder that is removed afterwards. The study's own clock says
when the first trial started and the last one ended; what comes before and after is start-up and shut-down.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pandas as pd

SCRIPT = Path(__file__).resolve().parents[1] / "sweeps" / "arena.py"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--trials", type=int, default=12)
    trials = flags.parse_args().trials
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        command = [sys.executable, str(SCRIPT), "--num-samples", str(trials), "--name", "bench"]
        subprocess.run(command, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        run = Path(scratch) / "runs" / "bench"
        study = optuna.load_study(study_name="bench", storage=f"sqlite:///{run / 'optuna.db'}")
        began = min(t.datetime_start for t in study.trials if t.datetime_start)
        ended = max(t.datetime_complete for t in study.trials if t.datetime_complete)
        rounds = len(pd.read_parquet(run / "trials.parquet"))
    busy = (ended - began).total_seconds()
    print(f"{os.cpu_count()} cores, {trials} trials, {rounds} rounds")
    print(
        f"with start-up:    {60 * trials / wall:5.1f} trials/min  {60 * rounds / wall:6.1f} rounds/min  ({wall:.0f} s)"
    )
    print(
        f"without start-up: {60 * trials / busy:5.1f} trials/min  {60 * rounds / busy:6.1f} rounds/min  ({busy:.0f} s)"
    )


if __name__ == "__main__":
    main()
