"""The leak test: test outputs replaced by noise of another shape change nothing that is trained, said or sized.

`efe` and `lora_ttt` have theirs in `test_efe.py` and `test_lora_ttt.py`.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.arc_files import ids, recolour, task, write
from tests.test_percell import SHORT
from trainables.bases import load
from trainables.learners.lora import LoraConfig
from trainables.solo import Solo
from trainables.tasks.arc import ArcTask

SHAPES = [(7, 5), (1, 2), (30, 30)]


def clean_and_noisy(folder: Path, content: dict[str, Any], shape: tuple[int, int]) -> list[ArcTask]:
    """Twice the same but for the test outputs of the search and the test split; the train split is trained on, as it
    should be."""
    noise = deepcopy(content)
    noise["test"][0]["output"] = np.random.default_rng(0).integers(0, 10, shape).tolist()
    made = []
    for name, hidden in (("clean", content), ("noisy", noise)):
        tasks = {ids("train", 1)[0]: content} | {ids(split, 1)[0]: hidden for split in ("search", "test")}
        made.append(ArcTask(data=write(folder / name, tasks)))
    assert made[0].search()[0].answer != made[1].search()[0].answer  # the scorer's, and nobody else's
    return made


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_task_says_of_itself_is_the_same(tmp_path, shape):
    tasks = clean_and_noisy(tmp_path, recolour(), shape)
    assert [each.max_new_tokens for each in tasks] == [9 + 3 + 1] * 2
    for split in ("search", "test"):
        ours, theirs = ([(e.prompt, e.kind, e.difficulty) for e in getattr(each, split)()] for each in tasks)
        assert ours == theirs


@pytest.mark.parametrize("shape", SHAPES)
def test_percell_changes_no_cell(tmp_path, shape):
    learners = [SHORT.build(None, each, seed=0) for each in clean_and_noisy(tmp_path, recolour(), shape)]
    rounds = [[learner.round() for _ in range(2)] for learner in learners]
    assert rounds[0] == rounds[1]
    for split in ("search", "test"):
        clean, noisy = (learner.evaluate(split) for learner in learners)
        assert clean["completions"] == noisy["completions"]
        assert clean["cell_accuracy"] > noisy["cell_accuracy"]


@pytest.mark.parametrize("shape", SHAPES)
def test_lora_and_the_untouched_base_say_the_same(tmp_path, shape):
    """With grids of one cell an answer is cut off after three tokens, so that a longer one would show."""
    cells = task([([[1]], [[2]]), ([[3]], [[4]])], [([[5]], [[6]])])
    config, base, said = LoraConfig(r=2, per_device_train_batch_size=1, steps_per_round=2), load("builtin:tiny"), []
    for each in clean_and_noisy(tmp_path, cells, shape):
        learner = Solo(base, config.build(base, each, 0), 0)
        untouched = [learner.evaluate(split) for split in ("search", "test")]
        loss = learner.round()["loss"]
        trained = [learner.evaluate(split) for split in ("search", "test")]
        learner.close()
        assert untouched[0]["truncated"] == 1.0
        said.append((loss, [metrics["completions"] for metrics in (*untouched, *trained)]))
    assert said[0] == said[1]
