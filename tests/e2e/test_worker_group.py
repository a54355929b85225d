"""Trials of several processes by Ray Train: the same numbers, real processes killed, memory that runs out."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import peft
import pytest
import ray
import transformers

from tests.support.driving import sweep
from tests.support.worker_group_kit import SEED, SHAPE, assert_same, pair
from trainables.models.loading import BUILTIN
from trainables.packed.specs import WorkerGroupShape
from trainables.runtime.trial import open_learner
from trainables.runtime.worker_group import WorkerGroup


@pytest.fixture(scope="module")
def alone():
    """Three rounds of one process: losses, and what is answered."""
    learner = open_learner(pair(), SEED)
    seen = [(learner.round().loss, learner.evaluate().items) for _ in range(3)]
    learner.close()
    return seen


@pytest.fixture(scope="module")
def processes(ray_session):
    """Two processes, which a test takes over from the one before it; the last one that uses them shuts them down."""
    yield
    assert WorkerGroup.workers is None
    end = time.monotonic() + 60  # Ray tells of it a while later, on a busy machine
    while (free := ray.available_resources().get("CPU")) != 2 and time.monotonic() < end:
        time.sleep(0.1)
    assert free == 2, "what the processes had is free again"


def test_a_worker_group_is_a_learner_like_any_other(processes, alone, tmp_path):
    """Against a host's numbers; one processes serves trial after trial; a state goes from one trial to the next."""
    first = WorkerGroup(SHAPE, pair(), SEED)
    assert_same(first, alone[:1])
    state = first.state()
    first.save(str(tmp_path))
    first.close()
    processes = WorkerGroup.workers
    second = WorkerGroup(SHAPE, pair(), SEED)
    second.load(state)
    assert_same(second, alone[1:])
    assert WorkerGroup.workers is processes
    model = transformers.AutoModelForCausalLM.from_pretrained(BUILTIN["tiny"])
    assert peft.PeftModel.from_pretrained(model, tmp_path).peft_config["default"].r == 16
    second.close()


def test_a_learners_own_error_is_told(processes, tmp_path):
    """Not that of the process which lost another."""
    group = WorkerGroup(SHAPE, pair("error", marks=tmp_path), SEED)
    group.round()
    with pytest.raises(KeyError, match="planted"):
        group.round()
    group.shut_down()


def test_processes_that_are_lost_cost_the_round_they_were_in(processes, alone, tmp_path):
    """Killed in the second round, out of memory in the third: new processes go on, to the same numbers."""
    group = WorkerGroup(SHAPE, pair("killed", "memory", marks=tmp_path), SEED)
    assert_same(group, alone[:1])
    group.state()
    assert_same(group, alone[1:])
    assert {mark.name for mark in tmp_path.iterdir()} == {"killed", "memory"}
    assert group.evaluate().metrics["memory_halvings"] == 1


def test_a_process_that_only_says_that_it_lost_another_costs_a_round(processes, alone, tmp_path):
    """The error does not name the dead process if Ray Train hears of the survivor first."""
    group = WorkerGroup(SHAPE, pair("peer", marks=tmp_path), SEED)
    assert_same(group, alone[:2])
    assert (tmp_path / "peer").exists()
    group.shut_down()


def test_a_worker_group_of_one(ray_session, alone, tmp_path):
    """An actor on any node: it is killed in the second round, and the next goes on from the first."""
    group = WorkerGroup(WorkerGroupShape(1), pair("killed", marks=tmp_path), SEED)
    assert_same(group, alone[:1])
    group.state()
    assert_same(group, alone[1:])
    assert (tmp_path / "killed").exists()
    group.save(str(tmp_path))
    assert peft.PeftConfig.from_pretrained(tmp_path).r == 16
    wrong = WorkerGroup(WorkerGroupShape(1), pair("error", marks=tmp_path), SEED)
    wrong.round()
    with pytest.raises(KeyError, match="planted"):
        wrong.round()
    wrong.shut_down()


def test_a_sweep_of_trials_in_two_processes(tmp_path):
    """From the command line to the leaderboard, Ray started by the sweep."""
    done = sweep(
        tmp_path, "--learner", "lora", "--num-workers", "2", "--resources.cpu", "2", "--num-samples", "2",
        "--rounds", "2", "--grace-period", "2", "--finalists", "0", "--set", "steps_per_round=2",
        "--task.train-size", "20", "--task.search-size", "10", "--task.test-size", "10",
        script=Path(__file__).parents[2] / "sweeps/arena.py",
    )  # fmt: skip
    assert "every trial is trained by 2 processes (Ray Train, DDP, or FSDP where the base does not fit)" in done.stdout
    trials = pd.read_parquet(tmp_path / "runs/arena/trials.parquet")
    assert list(trials["status"]) == ["finished"] * 4  # a row for each round
    assert "best against untouched" in done.stdout
    peft.PeftConfig.from_pretrained(tmp_path / "runs/arena/best")
