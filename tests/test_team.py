"""Trials of several processes by Ray Train: the same numbers, real processes killed, memory that runs out."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd
import peft
import pytest
import ray
import torch
import transformers

from sweeps.arc import SWEEP as ARC
from sweeps.arena import SWEEP as ARENA
from sweeps.engine.checks import BadInput
from sweeps.engine.nodes import Capacity
from sweeps.engine.seating import Machine, seating
from sweeps.engine.teams import team_of
from sweeps.strategyqa import SWEEP as STRATEGYQA
from sweeps.style import SWEEP as STYLE
from tests.driving import sweep
from tests.toys import Letters
from trainables.bases import BUILTIN
from trainables.core import Pair
from trainables.learners.language import SupervisedLearner
from trainables.learners.lora import LoraConfig
from trainables.shape import TeamShape
from trainables.team import Team
from trainables.trial import open_learner

SHAPE, SEED = TeamShape(2, cpus=1), 3


@dataclass(frozen=True)
class PlantedConfig(LoraConfig):
    """LoRA that goes wrong at its sixth and its tenth loss, each once in the life of the folder `marks`."""

    name: ClassVar[str] = "planted"
    planted: tuple[str, ...] = ()  # killed, memory, device, peer, error
    marks: str = ""

    def build(self, base, task, seed):
        return Planted(self, self.adapter(), self.optimizer(), base, task, seed)


class Planted(SupervisedLearner):
    def loss(self, logprobs, rows):
        first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        for planted, draws in zip(self.config.planted, (6, 10), strict=False):
            mark = Path(self.config.marks, planted)
            if first and self._draws == draws and not mark.exists():
                mark.touch()
                if planted == "error":
                    raise KeyError("planted")
                if planted == "memory":
                    raise torch.OutOfMemoryError("planted: out of memory")
                if planted == "peer":
                    raise RuntimeError("planted: gloo/transport/tcp/pair.cc: Connection reset by peer")
                if planted == "device":
                    raise torch.AcceleratorError("planted: CUDA error: an illegal memory access was encountered")
                os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(logprobs, rows)


def pair(*planted, marks=""):
    fields = {"steps_per_round": 4, "per_device_train_batch_size": 5}
    return Pair(PlantedConfig(**fields, planted=planted, marks=str(marks)), Letters(), "builtin:tiny")


@pytest.fixture(scope="module")
def alone():
    """Three rounds of one process: losses, and what is answered."""
    learner = open_learner(pair(), SEED)
    seen = [(learner.round()["loss"], learner.evaluate()["items"]) for _ in range(3)]
    learner.close()
    return seen


@pytest.fixture(scope="module")
def crew(ray_session):
    yield
    assert Team._crew is None
    end = time.monotonic() + 60  # Ray tells of it a while later, on a busy machine
    while (free := ray.available_resources().get("CPU")) != 2 and time.monotonic() < end:
        time.sleep(0.1)
    assert free == 2, "what the processes had is free again"


def assert_same(team, expected):
    for loss, items in expected:
        assert team.round()["loss"] == pytest.approx(loss, rel=1e-4)
        assert team.evaluate()["items"] == items


def test_a_team_is_a_learner_like_any_other(crew, alone, tmp_path):
    """Against a host's numbers; one crew serves trial after trial; a state goes from one trial to the next."""
    first = Team(SHAPE, pair(), SEED)
    assert_same(first, alone[:1])
    state = first.state()
    first.save(str(tmp_path))
    first.close()
    crew = Team._crew
    second = Team(SHAPE, pair(), SEED)
    second.load(state)
    assert_same(second, alone[1:])
    assert Team._crew is crew
    model = transformers.AutoModelForCausalLM.from_pretrained(BUILTIN["tiny"])
    assert peft.PeftModel.from_pretrained(model, tmp_path).peft_config["default"].r == 16
    second.close()


def test_processes_that_are_lost_cost_the_round_they_were_in(crew, alone, tmp_path):
    """Killed in the second round, out of memory in the third: new processes go on, to the same numbers."""
    team = Team(SHAPE, pair("killed", "memory", marks=tmp_path), SEED)
    assert_same(team, alone[:1])
    team.state()
    assert_same(team, alone[1:])
    assert {mark.name for mark in tmp_path.iterdir()} == {"killed", "memory"}
    assert team.evaluate()["memory_halvings"] == 1
    team.dismiss()


def test_a_process_that_only_says_that_it_lost_another_costs_a_round(crew, alone, tmp_path):
    """Which one is not told where Ray Train hears of the survivor first."""
    team = Team(SHAPE, pair("peer", marks=tmp_path), SEED)
    assert_same(team, alone[:2])
    assert (tmp_path / "peer").exists()
    team.dismiss()


def test_a_team_of_one(ray_session, alone, tmp_path):
    """An actor on any node: it is killed in the second round, and the next goes on from the first."""
    team = Team(TeamShape(1), pair("killed", marks=tmp_path), SEED)
    assert_same(team, alone[:1])
    team.state()
    assert_same(team, alone[1:])
    assert (tmp_path / "killed").exists()
    team.save(str(tmp_path))
    assert peft.PeftConfig.from_pretrained(tmp_path).r == 16
    wrong = Team(TeamShape(1), pair("error", marks=tmp_path), SEED)
    wrong.round()
    with pytest.raises(KeyError, match="planted"):
        wrong.round()
    wrong.dismiss()


def test_a_learners_own_error_is_told(crew, tmp_path):
    """Not that of the process which lost another."""
    team = Team(SHAPE, pair("error", marks=tmp_path), SEED)
    team.round()
    with pytest.raises(KeyError, match="planted"):
        team.round()
    team.dismiss()


def test_a_sweep_of_trials_in_two_processes(tmp_path):
    """From the command line to the leaderboard, Ray started by the sweep."""
    done = sweep(
        tmp_path, "--learner", "lora", "--num-workers", "2", "--resources.cpu", "2", "--num-samples", "2",
        "--rounds", "2", "--grace-period", "2", "--finalists", "0", "--set", "steps_per_round=2",
        "--task.train-size", "20", "--task.search-size", "10", "--task.test-size", "10",
        script=Path(__file__).parents[1] / "sweeps/arena.py",
    )  # fmt: skip
    assert "every trial is trained by 2 processes (Ray Train, DDP, or FSDP where the base does not fit)" in done.stdout
    trials = pd.read_parquet(tmp_path / "runs/arena/trials.parquet")
    assert list(trials["status"]) == ["finished"] * 4  # a row for each round
    assert "best against untouched" in done.stdout
    peft.PeftConfig.from_pretrained(tmp_path / "runs/arena/best")


def asked(of=ARENA, **changes):
    return replace(of, pairs=tuple(p for p in of.pairs if p.learner.name in ("lora", "percell")), **changes)


def test_a_gpu_is_a_process():
    two = asked(resources_per_trial={"cpu": 4, "gpu": 2})
    assert team_of(two) == TeamShape(2, cpus=2, gpus=1)
    assert team_of(replace(two, num_workers=2, parallel_strategy="fsdp")) == TeamShape(2, 2, 1, "fsdp")
    for one in (STYLE, *STRATEGYQA.phases.values()):  # their learners are of one task, and adapt one base
        assert team_of(replace(one, num_workers=2)) == TeamShape(2, cpus=0.5)
    assert team_of(asked(resources_per_trial={"cpu": 1, "gpu": 1})) is None
    assert team_of(asked(resources_per_trial={"cpu": 1, "gpu": 0.5})) is None
    assert seating(two, Machine(8, 4)).team == TeamShape(2, 2, 1)
    assert Capacity(cores=16, gpus=8, smallest=4).trials(two.resources_per_trial) == 4


@pytest.mark.parametrize(
    ("sweep", "remedy"),
    [
        (asked(ARC, resources_per_trial={"gpu": 2}), "learner 'percell' trains in one process"),
        (replace(ARC, pairs=ARC.pairs[2:], num_workers=2), "learner 'lora_ttt' trains in one process"),
        (replace(ARENA, num_workers=2), "learner 'soft_prompt': .*choose another --learner"),
        (asked(resources_per_trial={"gpu": 3}, num_workers=2), "use --resources.gpu 2, or 0"),
        (asked(resources_per_trial={"gpu": 2}, num_workers=1), "a process trains on one device"),
        (asked(num_workers=2, seats=4), "drop --seats"),
    ],
)
def test_what_cannot_be_spread_is_refused(sweep, remedy):
    with pytest.raises(BadInput, match=remedy):
        team_of(sweep)
