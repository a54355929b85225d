"""The folder of a sweep over chains of thought that has ended: one trial, its adapter, and its answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from search_spaces import cot
from sweeps.persistence.provenance import describe
from sweeps.results.leaderboard import write_all
from sweeps.results.records import UNTOUCHED, Final, TrialRecord
from sweeps.results.run_folder import BEST, SWEEP_FILE
from sweeps.results.tables import FINALISTS, finalists_parquet
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.spec.sweep import Sweep
from trainables.core import Pair
from trainables.learners.lm.cot import CotConfig
from trainables.models.loading import load
from trainables.runtime.trial import open_learner
from trainables.tasks.strategyqa.task import StrategyQaTask


def write_finished_sweep(folder: Path, name: str, config: CotConfig, task: StrategyQaTask) -> None:
    """Train one round and write the folder. The finalist's completions are the data's own rationales, because a base
    needs minutes to learn to write some; the untouched base answers nothing right."""
    pair = Pair(config, task, "builtin:tiny")
    learner = open_learner(pair, seed=1)
    learner.round()
    (folder / BEST).mkdir()
    learner.save(str(folder / BEST))
    learner.close()
    load.cache_clear()
    sweep = Sweep(name, (pair,), cot.SPACE)
    params = TrialParams("cot", {**sweep.defaults()[0].fields, "steps_per_round": config.steps_per_round})
    (folder / SWEEP_FILE).write_text(yaml.safe_dump(describe(sweep), sort_keys=False))
    history = [{"round": 1, "score": 0.5, "loss": 1.0, "diverged": False, "time_s": 1.0, "seconds": 1.0, "at": 1.0}]
    record = TrialRecord("t0", 0, params, "finished", TrialHistory(tuple(history)), len(task.search()))
    write_all(folder, [record], baselines={}, rounds=1)
    answers = [task.rationale_answer(example) for example in task.test()]
    final = Final("trial 0", 0.5, np.ones((1, len(answers))), "t0", 1, (answers,))
    base = Final(UNTOUCHED, None, np.zeros((1, len(answers))), None, None, (["?"] * len(answers),))
    (folder / FINALISTS).write_bytes(finalists_parquet([final, base], task.test()))
