"""The code of docs/how-to/own-learner.md runs as it stands: its task, learner, space and sweep work together."""

from __future__ import annotations

import importlib
import math
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from trainables.models.loading import load
from trainables.packed.solo import Solo

PAGE = Path(__file__).parents[3] / "docs/how-to/own-learner.md"
BLOCK = re.compile(r"^`([\w/]+)\.py`[^\n]*\n\n```python\n(.*?)```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def page(monkeypatch):
    """The page's files as modules, by their dotted names, imported in the order of the page."""
    modules = {}
    for path, code in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        name = path.replace("/", ".")
        module = ModuleType(name)
        module.__spec__, module.__file__ = ModuleSpec(name, None), str(PAGE.parents[2] / f"{path}.py")
        monkeypatch.setitem(sys.modules, name, module)
        package, _, own = name.rpartition(".")
        monkeypatch.setattr(importlib.import_module(package), own, module, raising=False)
        exec(compile(code, f"{PAGE.name}: {path}.py", "exec"), vars(module))
        modules[name] = module
    return modules


def test_the_page_makes_a_task_a_learner_a_space_and_a_sweep(page):
    assert list(page) == [
        "trainables.tasks.addition",
        "trainables.learners.lm.focal",
        "search_spaces.focal",
        "sweeps.addition",
    ]
    sweep = page["sweeps.addition"].SWEEP
    sweep.validate()
    task = sweep.pairs[0].task
    keys = [{example.key for example in task.split(split)} for split in ("train", "search", "test")]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 50 * 51 // 2
    assert all(task.score(example, example.answer) == 1 for example in task.search())
    assert set(task.details(task.search()[0], "")) == {"lenient", "unparsed"}


def test_the_learner_of_the_page_trains_with_its_own_loss(page):
    sweep = page["sweeps.addition"].SWEEP
    base, task = load("builtin:tiny"), sweep.pairs[0].task
    losses = []
    for pair in sweep.pairs:
        config = type(pair.learner)(steps_per_round=2)
        learner = Solo(base, config.build(base, task, 0), 0)
        losses.append(learner.round().loss)
        learner.close()
    plain, focal = losses
    assert math.isfinite(focal)
    assert 0 < focal < plain
    with pytest.raises(ValueError, match=r"gamma is 0.5; it must be at least 1"):
        page["trainables.learners.lm.focal"].FocalConfig(gamma=0.5)
