"""Processes that ask for the same features at once, or are killed while they compute them."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import miniatures
from tests.support.features_kit import DEMONSTRATIONS, PUZZLES, count_forwards, files
from trainables.learners.arc.base_features import features
from trainables.models.loading import Base


@pytest.fixture(scope="module")
def base() -> Base:
    return miniatures.base("qwen2")


def ask(folder: Path, barrier: Any, answers: Any, seconds: float) -> None:
    """Run in a process of its own; the model takes `seconds` longer for every sequence."""
    base = miniatures.base("qwen2")
    seen = count_forwards(base, seconds)
    barrier.wait(120)
    found = features(base, PUZZLES, folder)
    answers.put((len(seen), {name: row.tobytes() for name, row in found.items()}))


def test_of_two_processes_one_computes(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(2), spawn.Queue()
    both = [spawn.Process(target=ask, args=(tmp_path, barrier, answers, 0.3)) for _ in range(2)]
    for process in both:
        process.start()
    (one, first), (other, second) = (answers.get(timeout=120) for _ in both)
    for process in both:
        process.join(60)
    assert sorted([one, other]) == [0, DEMONSTRATIONS]
    assert first == second


def stall(folder: Path, begun: Any) -> None:
    """Never gets beyond the first sequence."""
    base = miniatures.base("qwen2")

    def wait(*_: Any) -> None:
        begun.set()
        time.sleep(600)

    base.model.base_model.register_forward_hook(wait)
    features(base, PUZZLES, folder)


def test_a_process_killed_halfway_leaves_nothing_in_the_way(base, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    begun = spawn.Event()
    process = spawn.Process(target=stall, args=(tmp_path, begun))
    process.start()
    assert begun.wait(120)
    process.kill()
    process.join(60)
    assert files(tmp_path) == set()
    assert features(base, PUZZLES, tmp_path).keys() == PUZZLES.keys()
    assert len(files(tmp_path)) == 1
