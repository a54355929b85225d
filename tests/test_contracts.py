"""Every learner and every task, found by looking, keeps its contract. A new one joins by being there."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import trainables.learners
import trainables.tasks
from tests.support.miniatures import base, four_bit_base
from tests.support.planted import Planted
from tests.support.toys import Letters
from trainables.core import Learner
from trainables.models.loading import load
from trainables.packed.solo import Solo
from trainables.states import UnreadableState
from trainables.tasks.arc.task import ArcTask
from trainables.tasks.strategyqa.task import StrategyQaTask
from trainables.tasks.style.task import StyleTask

GOLDEN = Path(__file__).parent / "golden" / "losses.json"


def found(package, method):
    """The frozen dataclasses of a package that have a `name` and the method, in order of name."""
    classes = {}
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        for thing in vars(importlib.import_module(module.name)).values():
            config = isinstance(thing, type) and dataclasses.is_dataclass(thing) and hasattr(thing, method)
            if config and isinstance(getattr(thing, "name", None), str):
                classes[thing.name] = thing
    return dict(sorted(classes.items()))


# What a learner needs to be quick beside few steps in a round; and grpo, for losses that are more than rounding.
SHORTER = {"joint": {"trunk_steps": 3}, "grpo": {"length_penalty": 1.0, "max_completion_length": 12}}
QUESTIONS = Path(__file__).parent / "golden" / "questions.csv"  # 40 sums
OF_TASKS = {"own": {"data": str(QUESTIONS), "max_new_tokens": 8}}  # what a task needs beside its defaults
LEARNERS, TASKS = found(trainables.learners, "build"), found(trainables.tasks, "baselines")
PACKAGES = {"reasoning": "reasoning_gym"}  # extras that tasks need


def test_the_house_has_its_learners_and_tasks():
    assert set(LEARNERS) >= {"lora", "soft_prompt", "hybrid", "dora", "ia3", "full", "percell", "lora_ttt"}
    assert set(LEARNERS) >= {"qlora", "cot", "dpo", "phases", "grpo"}
    assert set(TASKS) >= {"arena", "arc", "strategyqa", "style", "own", "reasoning"}


@pytest.mark.parametrize("name", TASKS)
def test_task(name):
    pytest.importorskip(PACKAGES.get(name, "pytest"))
    fields = OF_TASKS.get(name, {})
    task = TASKS[name](**fields)
    assert dataclasses.replace(task) == task
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.seed = 1
    splits = {split: task.split(split) for split in ("train", "search", "test")}
    keys = {split: {e.key for e in examples} for split, examples in splits.items()}
    assert not keys["train"] & keys["search"]
    assert not keys["train"] & keys["test"]
    assert not keys["search"] & keys["test"]
    assert list(TASKS[name](**fields).search()) == list(splits["search"])
    for examples in splits.values():
        for example in examples[:40]:
            assert task.score(example, example.answer) == 1.0
            assert task.score(example, "") == 0.0
            assert example.answer not in ("", None)
            assert 0 <= example.difficulty <= 1
            assert all(0 <= value <= 1 for value in task.details(example, example.answer).values())
            assert task.details(example, example.answer)["lenient"] == 1.0
    assert 0 <= task.chance <= 1
    assert task.baselines()
    assert all(0 <= value <= 1 for value in task.baselines().values())


@pytest.mark.parametrize("name", TASKS)
def test_task_needs_no_torch_and_is_the_same_in_another_process(name):
    pytest.importorskip(PACKAGES.get(name, "pytest"))
    fields = OF_TASKS.get(name, {})
    task = TASKS[name](**fields)
    code = (
        f"from {TASKS[name].__module__} import {TASKS[name].__name__} as T; import sys, hashlib;"
        f"e = T(**{fields!r}).search(); assert 'torch' not in sys.modules and 'ray' not in sys.modules;"
        "print(hashlib.sha256('|'.join(x.key + x.prompt for x in e).encode()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import hashlib

    mine = hashlib.sha256("|".join(x.key + x.prompt for x in task.search()).encode()).hexdigest()
    assert done.stdout.strip() == mine


def task_of(config):
    """The smallest task that this learner takes."""
    smallest = {
        "arc": ArcTask(same_size=True, max_side=7 if config.name == "ensemble" else 4),  # programs solve the smallest
        "strategyqa": StrategyQaTask(train_size=16, search_size=8, test_size=8),
        "style": StyleTask("generated", 0, 24, 12, 12),
    }
    return smallest.get(config.only_task, Letters())


def base_of(config):
    """The base that this learner takes, if any: one that knows the words of its task."""
    if config.name == "qlora":
        return four_bit_base("qwen2")
    if isinstance(task_of(config), StrategyQaTask):
        return load("builtin:tiny")
    return base("qwen2") if config.needs_base else None


def opened(name, seed=0):
    config = LEARNERS[name](steps_per_round=4, **SHORTER.get(name, {}))
    ours = base_of(config)
    learner = config.build(ours, task_of(config), seed)
    return learner if isinstance(learner, Learner) else Solo(ours, learner, seed)


@pytest.mark.parametrize("name", LEARNERS)
def test_learner(name, tmp_path):
    config = LEARNERS[name]()
    assert config.name == name
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.name = "other"
    task = task_of(config)

    learner = opened(name)
    assert isinstance(learner, Learner)
    first = learner.round()
    assert math.isfinite(first.loss)
    assert first.trainable_parameters > 0
    evaluation = learner.evaluate()
    assert 0 <= evaluation.score <= 1
    assert evaluation.score == pytest.approx(sum(evaluation.items) / len(evaluation.items))
    assert len(learner.evaluate("test").items) == len(task.test())

    (tmp_path / "state.pt").write_bytes(learner.state())
    second = learner.round()
    other = opened(name)
    other.load((tmp_path / "state.pt").read_bytes())
    assert other.evaluate().items == evaluation.items
    assert other.round().loss == second.loss, "a resumed round is the round that would have been"
    folder = tmp_path / "saved"
    folder.mkdir()
    learner.save(str(folder))
    assert any(folder.rglob("*"))
    learner.close()
    other.close()


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_loads_data_and_no_pickle(name, tmp_path):
    learner = opened(name)
    with pytest.raises(UnreadableState, match="is no state that this version can read"):
        learner.load(pickle.dumps(Planted(tmp_path / "planted")))
    assert not (tmp_path / "planted").exists()
    learner.close()


@pytest.mark.parametrize("name", LEARNERS)
def test_golden_losses(name):
    """Two rounds give the losses of `tests/golden/losses.json`; `python -m tests.test_contracts` writes them anew."""
    assert losses(name) == pytest.approx(json.loads(GOLDEN.read_text())[name], rel=1e-4)


def losses(name):
    learner = opened(name)
    values = [learner.round().loss, learner.round().loss]
    learner.close()
    return values


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps({name: losses(name) for name in LEARNERS}, indent=1) + "\n")
