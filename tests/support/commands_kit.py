"""A small folder of a sweep with one finalist, and all commands that take such a folder, called in this process."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sweeps.cli.main import console, main
from search_spaces import cot
from sweeps.persistence.provenance import describe
from sweeps.persistence.study import storage_of
from sweeps.results.leaderboard import write_all
from sweeps.results.records import UNTOUCHED, Final, TrialRecord
from sweeps.results.run_folder import SWEEP_FILE
from sweeps.results.tables import FINALISTS, finalists_parquet
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.spec.sweep import Sweep
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
from trainables.core import Pair
from trainables.learners.lm.cot import CotConfig
from trainables.tasks.strategyqa.task import StrategyQaTask

TASK = StrategyQaTask(train_size=50, search_size=4, test_size=6)
PAIR = Pair(CotConfig(steps_per_round=1), TASK, "builtin:tiny")
SWEEP = Sweep("run", (PAIR,), cot.SPACE, finalists=0)


def write_tables(folder: Path, start: str | None, sweep: Sweep = SWEEP) -> None:
    params = TrialParams(sweep.defaults()[0].pair, {**sweep.defaults()[0].fields, "steps_per_round": 1}, start)
    history = [{"round": 1, "score": 0.5, "loss": 1.0, "diverged": False, "time_s": 1.0, "seconds": 1.0, "at": 1.0}]
    record = TrialRecord("t0", 0, params, "finished", TrialHistory(tuple(history)), 4)
    write_all(folder, [record], baselines={}, rounds=1)
    said = [TASK.rationale_answer(example) for example in TASK.test()]
    final = Final("trial 0", 0.5, np.ones((1, len(said))), "t0", 1, (said,))
    base = Final(UNTOUCHED, None, np.zeros((1, len(said))), None, None, (["?"] * len(said),))
    (folder / FINALISTS).write_bytes(finalists_parquet([final, base], TASK.test()))


def change(run: Path, part: str | None, **values: Any) -> None:
    """Change the pair in sweep.yaml, or its learner or task."""
    facts = yaml.safe_load((run / SWEEP_FILE).read_text())
    pair = facts["sweep"]["pairs"][0]
    (pair[part] if part else pair).update(values)
    (run / SWEEP_FILE).write_text(yaml.safe_dump(facts))


def make_run(folder: Path, adapter: Path, sweep: Sweep = SWEEP) -> None:
    """Write the folder of a finished sweep on TASK whose winner is `adapter`."""
    shutil.copytree(adapter, folder / "best")
    facts = describe(sweep) | {"guards": [], "command": ["script.py"]}
    (folder / SWEEP_FILE).write_text(yaml.safe_dump(facts, sort_keys=False))
    OptunaSearcher(SearchSettings.of_sweep(sweep), storage_of(folder))
    write_tables(folder, None, sweep)


COMMANDS = {
    "status": ["status", "runs/run"],
    "report": ["report", "runs/run"],
    "stop": ["stop", "0", "--run", "runs/run"],
    "clone": ["clone", "0", "learning_rate=0.001", "--run", "runs/run"],
    "reproduce": ["reproduce", "runs/run"],
    "reproduce 0": ["reproduce", "runs/run", "--trial", "0", "--to", "out/again"],
    "export": ["export", "runs/run", "--to", "out/taken"],
    "merge": ["export", "runs/run", "--to", "out/merged", "--merge"],
    "submission": ["export", "runs/run", "--submission", "out.json"],
    "judge": ["judge", "runs/run", "--trials", "best", "untouched"],
    "decide": ["decide", "runs/run"],
    "attribute": ["attribute", "runs/run", "--questions", "1", "--steps", "1"],
}
FLAGS = {"like": ["--like", "runs/run", "--plan"], "resume": ["--name", "run", "--resume", "--no-report"]}


def called(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command line in this process, and return its exit status."""
    script = not argv[0].isalpha()
    monkeypatch.setattr(sys, "argv", ["script.py" if script else "espalier", *argv])
    try:
        main(SWEEP) if script else console()
    except SystemExit as end:
        return end.code or 0
    return 0
