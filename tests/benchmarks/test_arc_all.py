"""The benchmark of all ARC tasks: every learner answers as a finalist does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.arc_all import answers, viewed
from tests.support.arc_files import ids, recolour, write
from tests.support.efe_kit import SHORT as EFE
from tests.support.percell_kit import SHORT as PERCELL
from trainables.models.loading import load
from trainables.tasks.arc.programs.search import Limits
from trainables.tasks.arc.task import ArcTask


@pytest.fixture
def planted(tmp_path: Path) -> ArcTask:
    own = {ids("search", 1)[0]: recolour(), ids("train", 1)[0]: recolour()}
    return ArcTask(data=write(tmp_path, own | dict.fromkeys(ids("test", 2), recolour())))


@pytest.mark.parametrize("config", [PERCELL, replace(EFE, memory_capacity=0, features=False)], ids=lambda own: own.name)
def test_it_answers_as_a_finalist_does(planted, config):
    config = replace(config, learning_rate=2e-2, ema_decay=0.5)
    said = answers(planted.test(), config, planted, rounds=2, seed=3, base="builtin:tiny")
    for fewer in (0, 1):
        assert answers(planted.test(), config, planted, fewer, 3, "builtin:tiny").completions != said.completions
    finalist = config.build(load("builtin:tiny"), planted, 3)
    for _ in range(2):
        finalist.round()
    assert [said.completions[e.key] for e in planted.test()] == finalist.evaluate("test").completions


def test_programs_answer_without_training(planted):
    said = answers(planted.test(), Limits(grids=4000), planted, rounds=0, seed=0, base="builtin:tiny")
    assert [planted.score(e, said.completions[e.key]) for e in planted.test()] == [1.0, 1.0]
    assert said.cpu > 0


def test_a_view_turns_the_whole_task_and_keeps_its_answer(planted):
    """1 becomes 2, whatever they are called: what a task shows still tells what its test output is."""
    assert [e.key for e in viewed(planted, 0)["test"]] == [e.key for e in planted.test()]
    for example, plain in zip(viewed(planted, 1)["test"], planted.test(), strict=True):
        assert example.key == plain.key
        (source, target), (before, after) = example.data.tests[0], plain.data.tests[0]
        assert not np.array_equal(source, before)
        assert (source != target).sum() == (before != after).sum() > 0
        renamed = {(int(a), int(b)) for a, b in zip(source[source != target], target[source != target], strict=True)}
        shown = [(a != b, a, b) for a, b in example.data.demonstrations]
        assert renamed == {(int(a[where][0]), int(b[where][0])) for where, a, b in shown}
