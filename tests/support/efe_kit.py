"""Small configurations of efe, and a rule that it learns in a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.arc_files import task, write_all_splits
from tests.support.miniatures import base
from trainables.learners.arc.efe.hyperparameters import TERMS
from trainables.learners.arc.efe.learner import EfeConfig
from trainables.tasks.arc.task import ArcTask

QUICK = EfeConfig(
    hidden_size=16,
    horizon=2,
    per_device_train_batch_size=6,
    steps_per_round=20,
    learning_rate=1e-2,
    features=True,
    memory_capacity=256,
    memory_similarity=0.5,
)
SHORT = replace(QUICK, steps_per_round=4)
ALL = dict.fromkeys(TERMS, 0.1)


def rule(seed: int = 0, side: int = 4) -> dict[str, Any]:
    """Every 1 becomes 2, on square grids in which 0, 1 and 3 are everywhere."""
    cells = np.random.default_rng(seed).choice([0, 1, 3], size=(5, side, side))
    pairs = [(grid.tolist(), np.where(grid == 1, 2, grid).tolist()) for grid in cells]
    return task(pairs[:4], pairs[4:])


def planted_in(folder: Path) -> ArcTask:
    return ArcTask(data=write_all_splits(folder, rule(), search=2))


def built(config: EfeConfig, arc: ArcTask, seed: int = 0):
    return config.build(base("qwen2"), arc, seed)
