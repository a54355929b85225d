"""joint: a trunk learns many tasks at once, each task's network starts from it, and no test output is seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.arc_files import ids, task, write
from tests.support.percell_kit import QUICK
from trainables.learners.arc.joint.learner import JointConfig
from trainables.learners.arc.joint.trunk import train_trunk
from trainables.learners.arc.percell.learner import PercellConfig
from trainables.tasks.arc.task import ArcTask

FIELDS = {name: getattr(QUICK, name) for name in ("hidden_size", "recurrent_steps", "per_device_train_batch_size")}
CONFIG = JointConfig(**FIELDS, steps_per_round=3, trunk_steps=300, permute_colours=False, trunk_learning_rate=1e-2)


def swap(first: int, second: int, seed: int) -> dict:
    """Every cell of one colour becomes another."""
    grids = np.random.default_rng(seed).integers(0, 4, (4, 3, 3))
    pairs = [(grid.tolist(), np.where(grid == first, second, grid).tolist()) for grid in grids]
    return task(pairs[:3], pairs[3:])


@pytest.fixture
def alike(tmp_path: Path) -> ArcTask:
    """Six tasks to learn from and two to solve, all of one rule."""
    keys = [*ids("train", 6), *ids("search", 2), *ids("test", 1)]
    return ArcTask(data=write(tmp_path / "tasks", {key: swap(1, 2, i) for i, key in enumerate(keys)}))


def test_what_others_taught_is_known_at_once(alike: ArcTask) -> None:
    """Three steps of its own teach a network nothing; three steps from the trunk are enough."""
    alone = PercellConfig(**FIELDS, steps_per_round=3).build(None, alike, 0)
    started = CONFIG.build(None, alike, 0)
    alone.round()
    result = started.round()
    assert alone.evaluate().score < started.evaluate().score == 1.0
    assert result.metrics["trunk_loss"] < 0.3
    [batch] = started.batches.values()
    assert result.trainable_parameters * len(batch.specs) == sum(one.numel() for one in batch.nets.parameters())
    assert started.evaluate("test").score == 1.0


def test_a_vector_says_which_of_two_rules_a_task_follows(tmp_path: Path) -> None:
    """1 becomes 2 in one half of the tasks, 3 in the other. Only vectors tell them apart."""
    files = {key: swap(1, 2 + i % 2, i) for i, key in enumerate(ids("train", 8))}
    files |= {key: swap(1, 2, 9) for key in (*ids("search", 1), *ids("test", 1))}
    arc = ArcTask(data=write(tmp_path / "tasks", files))
    canvases = CONFIG.build(None, arc, 0).canvases_of(arc.train())
    (told, with_vectors), (plain, without) = (
        train_trunk(canvases, replace(CONFIG, task_vector=own), 0) for own in (True, False)
    )
    assert with_vectors < without / 2
    assert all(not vector.any() for vector in plain.vectors.values())
    mean = torch.stack([*told.vectors.values()]).mean(0)
    assert torch.equal(told.vector("a task that took no part"), mean)
    assert not torch.equal(told.vector(ids("train", 1)[0]), mean)


def test_without_a_trunk_it_is_percell_to_the_last_bit(alike: ArcTask) -> None:
    fields = {"learning_rate": 8e-3, "permute_colours": True, "steps_per_round": 4}
    percell, joint = PercellConfig(**FIELDS, **fields), JointConfig(**FIELDS, **fields, trunk_steps=0)
    first, second = (config.build(None, alike, 2) for config in (percell, joint))
    assert [first.round().loss for _ in range(2)] == [second.round().loss for _ in range(2)]
    assert first.completions() == second.completions()
    assert first.completions("test") == second.completions("test")


def test_it_resumes_bit_for_bit(alike: ArcTask) -> None:
    config = replace(CONFIG, trunk_steps=20)
    straight, first, second = (config.build(None, alike, 3) for _ in range(3))
    whole = [straight.round().loss for _ in range(3)]
    half = [first.round().loss]
    second.load(first.state())
    assert half + [second.round().loss for _ in range(2)] == whole
    for split in ("search", "test"):
        assert straight.completions(split) == second.completions(split)


def test_a_transductive_trunk_learns_the_demonstrations_that_are_asked_and_no_test_output(tmp_path: Path) -> None:
    """The rule is that of no training task. With other test outputs, all answers and losses are the same."""
    asked = {key: swap(3, 0, 7) for key in (*ids("search", 1), *ids("test", 1))}
    taught = {key: swap(1, 2, i) for i, key in enumerate(ids("train", 3))}
    config, seen = replace(CONFIG, transductive=True, trunk_steps=100), []
    for outputs in (None, [[9, 9, 9]] * 3):
        changed = json.loads(json.dumps(asked))
        for content in changed.values() if outputs else ():
            content["test"][0]["output"] = outputs
        folder = write(tmp_path / f"tasks {outputs}", taught | changed)
        learner = config.build(None, ArcTask(data=folder), 0)
        seen.append((learner.round().loss, learner.completions(), learner.completions("test")))
    assert seen[0] == seen[1]
    plain = replace(config, transductive=False).build(None, ArcTask(data=folder), 0)
    assert plain.round().loss > 1.5 * seen[0][0]


def test_refused() -> None:
    for field, value in (("trunk_steps", -1), ("trunk_learning_rate", 0.0)):
        with pytest.raises(ValueError, match=f"{field} is"):
            JointConfig(**{field: value})
