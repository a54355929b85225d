"""The leak test: test outputs replaced by noise of another shape change nothing that is trained, said or sized.

Tasks that keep their size, of `efe` and `lora_ttt`, are in `efe/test_learner.py` and `lora_ttt/test_learner.py`.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import efe_kit
from tests.support.arc_files import ids, recolour, task, write
from tests.support.miniatures import base as miniature
from tests.support.percell_kit import SHORT
from trainables.learners.arc.canvas import hypotheses
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import load
from trainables.packed.solo import Solo
from trainables.tasks.arc.task import ArcTask, puzzle

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
        ours, theirs = ([(e.prompt, e.kind, e.difficulty) for e in each.split(split)] for each in tasks)
        assert ours == theirs


@pytest.mark.parametrize("shape", SHAPES)
def test_percell_changes_no_cell(tmp_path, shape):
    learners = [SHORT.build(None, each, seed=0) for each in clean_and_noisy(tmp_path, recolour(), shape)]
    rounds = [[learner.round() for _ in range(2)] for learner in learners]
    assert rounds[0] == rounds[1]
    for split in ("search", "test"):
        clean, noisy = (learner.evaluate(split) for learner in learners)
        assert clean.completions == noisy.completions
        assert clean.metrics["cell_accuracy"] > noisy.metrics["cell_accuracy"]


@pytest.mark.parametrize("shape", SHAPES)
def test_lora_and_the_untouched_base_say_the_same(tmp_path, shape):
    """With grids of one cell an answer is cut off after three tokens, so that a longer one would show."""
    cells = task([([[1]], [[2]]), ([[3]], [[4]])], [([[5]], [[6]])])
    config, base, said = LoraConfig(r=2, per_device_train_batch_size=1, steps_per_round=2), load("builtin:tiny"), []
    for each in clean_and_noisy(tmp_path, cells, shape):
        learner = Solo(base, config.build(base, each, 0), 0)
        untouched = [learner.evaluate(split) for split in ("search", "test")]
        loss = learner.round().loss
        trained = [learner.evaluate(split) for split in ("search", "test")]
        learner.close()
        assert untouched[0].metrics["truncated"] == 1.0
        said.append((loss, [one.completions for one in (*untouched, *trained)]))
    assert said[0] == said[1]


def resized() -> list[dict[str, Any]]:
    """Tasks whose outputs have another size than their inputs: enlarged, tiled, cropped; rows of two made four long,
    of which lenses say "twice" first, and "two more" after it: right is what they would not choose."""
    rng = np.random.default_rng(0)
    grids, rows = rng.choice([0, 1, 3], (4, 3, 3)), rng.integers(0, 10, (3, 1, 2))
    framed = [np.pad(np.full((2, 2 + number % 2), 5), ((1, 2), (2, 1 + number % 2))) for number in range(4)]
    pairs = [
        [(grid, np.kron(grid, np.ones((2, 2), dtype=int))) for grid in grids],
        [(grid, np.tile(grid, (2, 2))) for grid in grids],
        [(grid, grid[1:3, 2 : 4 + number % 2]) for number, grid in enumerate(framed)],
        [*((row, np.tile(row, (1, 2))) for row in rows), (np.array([[1, 2, 3]]), np.array([[0, 1, 2, 3, 0]]))],
    ]
    listed = [[(a.tolist(), b.tolist()) for a, b in own] for own in pairs]
    return [task(own[:-1], own[-1:]) for own in listed]


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("learner", ["percell", "efe"])
def test_sizes_are_said_without_test_outputs(tmp_path, learner):
    """Lenses, and where they differ the size head, know how large an output is; noise of any shape moves no cell."""
    clean = {key: own for split in ("search", "test") for key, own in zip(ids(split, 4), resized(), strict=True)}
    noisy = deepcopy(clean)
    for number, content in enumerate(noisy.values()):
        content["test"][0]["output"] = np.random.default_rng(number).integers(0, 10, (5 + number, 7)).tolist()
    agent = replace(efe_kit.SHORT, size_head=True, risk=0.1, anchor=0.1, success_threshold=0.125, memory_similarity=0)
    config, base = (SHORT, None) if learner == "percell" else (agent, miniature("qwen2"))
    found = []
    for name, tasks in (("clean", clean), ("noisy", noisy)):
        arc = ArcTask(data=write(tmp_path / name, tasks | {ids("train", 1)[0]: recolour()}), same_size=False)
        own = config.build(base, arc, seed=0)
        rounds = [own.round() for _ in range(2)]
        found.append((rounds, [own.evaluate(split) for split in ("search", "test")]))
    for clean_said, noisy_said in zip(found[0][1], found[1][1], strict=True):
        assert clean_said.completions == noisy_said.completions
        assert clean_said.metrics["cell_accuracy"] > 0
        assert noisy_said.metrics["cell_accuracy"] == 0.0, "the noise must reach the scorer"
    assert found[0][0] == found[1][0]
    assert rounds[-1].metrics.get("memory_writes", 1) > 0
    unsure = next(e for e in ArcTask(data=str(tmp_path / "clean"), same_size=False).test() if len(e.answer) == 5)
    assert list(hypotheses(puzzle(unsure))) == [((1, 6),), ((1, 5),)]  # whoever peeks takes the second
