"""Trials in other processes that share a host: real Ray actors, killed for real."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import peft
import pytest
import ray
import transformers

from tests.support.driving import sweep_here
from trainables.core import Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.packed.specs import HostFull, SeatLost, Shape
from trainables.runtime.host_actor import HostProcess, start_hosts
from trainables.runtime.host_client import HostClient
from trainables.runtime.trial import open_learner
from trainables.tasks.arena.task import ArenaTask

ROOT = Path(__file__).parents[2]
TASK = ArenaTask(train_size=20, search_size=10, test_size=10)
PAIR = Pair(LoraConfig(steps_per_round=3), TASK, "builtin:tiny")
SMALL = ["--num-samples", "3", "--finalists", "0", "--rounds", "2", "--grace-period", "2", "--set", "steps_per_round=2",
         "--task.train-size", "20", "--task.search-size", "10", "--task.test-size", "10"]  # fmt: skip


def test_a_packed_sweep_scores_what_a_plain_one_scores(tmp_path, ray_session):
    """First in this file: `hosts` keeps a core, and the packed sweep's host takes all."""
    tables = {}
    for seats, how in (("1", ["--max-concurrent-trials", "1"]), ("auto", ["--hosts", "1"])):
        folder = tmp_path / seats
        folder.mkdir()
        out = sweep_here(folder, *SMALL, "--seats", seats, *how, script=ROOT / "sweeps/arena.py").stdout
        assert ("trials share a base" in out) == (seats == "auto")
        table = pd.read_parquet(folder / "runs/arena/trials.parquet").sort_values(["learner", "round"])
        assert set(table["status"]) == {"finished"}
        tables[seats] = table
        assert list(Path(folder / "runs/arena/best").rglob("adapter_config.json"))
    plain, packed = tables["1"], tables["auto"]
    assert packed["learner"].tolist() == plain["learner"].tolist()
    assert packed["score"].tolist() == plain["score"].tolist()
    assert packed["loss"].tolist() == pytest.approx(plain["loss"].tolist(), rel=1e-4)


@pytest.fixture(scope="module")
def hosts(ray_session):
    made = start_hosts("builtin:tiny", Shape(seats=2, lanes=16, max_rank=16, max_prompt=0), 1)
    yield made
    for host in made:
        ray.kill(host)


def test_a_seat_is_a_learner_like_any_other(hosts, tmp_path):
    """Its numbers equal those of a local host, but for the last bits; checkpoints and adapters travel as bytes."""
    alone, seat = open_learner(PAIR, 0), HostClient(hosts, PAIR, 0, "a")
    for _ in range(2):
        assert seat.round().loss == pytest.approx(alone.round().loss, rel=1e-4)
        assert seat.evaluate().items == alone.evaluate().items
    assert seat.evaluate("test").items == alone.evaluate("test").items
    folder = tmp_path / "adapter"
    folder.mkdir()
    seat.save(str(folder))
    model = transformers.AutoModelForCausalLM.from_pretrained(ROOT / "trainables/builtin/tiny")
    assert peft.PeftModel.from_pretrained(model, folder).peft_config["default"].r == 16
    again = HostClient(hosts, PAIR, 0, "b")
    again.load(seat.state())
    assert again.round().loss == seat.round().loss, "the state goes on in another seat, bit for bit"
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(HostClient, hosts, PAIR, 0, "c")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=2)
        seat.close()
        waiting.result(timeout=60).close()
    again.close()
    alone.close()


class SlowToReturn(HostProcess):
    """A host on a machine so busy that Ray turns calls away for longer than a trial's restarts would last."""

    def __init__(self, left: Path) -> None:
        time.sleep(10 * left.exists())
        left.touch()
        super().__init__("builtin:tiny", Shape(seats=2, lanes=16, max_rank=16, max_prompt=0), 1)


def test_a_killed_host_costs_a_round_and_nothing_else(ray_session, tmp_path):
    actor = ray.remote(SlowToReturn).options(num_cpus=0, max_restarts=-1, max_concurrency=6)
    hosts = [actor.remote(tmp_path / "left")]
    seats = {name: HostClient(hosts, PAIR, seed, name) for seed, name in enumerate(("x", "y"))}
    losses = {name: [seat.round().loss] for name, seat in seats.items()}
    os.kill(ray.get(hosts[0].pid.remote()), signal.SIGKILL)
    for name, seat in seats.items():
        losses[name] += [seat.round().loss, seat.round().loss]
        seat.close()
    for seed, name in enumerate(seats):
        unharmed = HostClient(hosts, PAIR, seed, f"{name} again")
        assert [unharmed.round().loss for _ in range(3)] == losses[name]
        unharmed.close()
    ray.kill(hosts[0])


def test_a_fault_reaches_the_trial_that_made_it(hosts):
    with pytest.raises(SeatLost, match="nobody"):
        ray.get(hosts[0].advance.remote("nobody"))
    with pytest.raises(HostFull, match="max_rank"):
        HostClient(hosts, Pair(LoraConfig(r=17), TASK, "builtin:tiny"), 0, "large")
    assert HostClient(hosts, PAIR, 0, "after").round().metrics["steps"] == 3
    ray.get(hosts[0].close.remote("after"))


def test_a_trial_that_opens_again_ends_the_call_of_its_dead_process(hosts):
    """The process of a trial is killed in the middle of a round; its successor takes the seat, and no call hangs."""
    HostClient(hosts, PAIR, 0, "again")
    left = hosts[0].advance.remote("again")
    successor = HostClient(hosts, PAIR, 0, "again")
    with pytest.raises(SeatLost, match=r"left its seat|has no seat"):  # the latter: `close` overtook it
        ray.get(left, timeout=60)
    assert successor.round().metrics["steps"] == 3
    successor.close()
