"""grpo on two hosts, as on two devices: what a trial samples and learns does not depend on the host that it is in."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import ray

from trainables.core import Pair
from trainables.learners.lm.grpo import GrpoConfig
from trainables.packed.specs import Shape
from trainables.runtime.host_actor import start_hosts
from trainables.runtime.host_client import HostClient
from trainables.tasks.arena.task import ArenaTask

TASK = ArenaTask(train_size=20, search_size=10, test_size=10)
CONFIG = GrpoConfig(
    rows_per_round=16, per_device_train_batch_size=8, num_generations=4, num_iterations=2, learning_rate=1e-2
)
PAIR = Pair(CONFIG, TASK, "builtin:tiny")
FIGURES = ("reward", "entropy", "kl", "completions/mean_length", "grad_norm")


def test_trials_on_two_hosts_sample_the_same_and_go_on_in_the_other_one(ray_session):
    hosts = start_hosts("builtin:tiny", Shape(seats=2, lanes=16, max_rank=4, max_prompt=0), 2)
    try:
        seats = {name: HostClient(hosts, PAIR, 0, name) for name in ("a", "b", "c", "d")}
        for host in hosts:
            assert sum(seat.host is host for seat in seats.values()) == 2

        def figures(name):
            trained, evaluated = seats[name].round(), seats[name].evaluate()
            metrics = trained.metrics | evaluated.metrics
            return trained.loss, evaluated.items, {name: metrics[name] for name in FIGURES}, seats[name].state()

        def all_rounds():
            with ThreadPoolExecutor() as pool:
                found = [*pool.map(figures, seats)]
            assert found[1:] == found[:1] * 3, "one seed: the same samples and bits on every host"
            return found[0]

        first = all_rounds()
        assert first[2]["grad_norm"] > 0
        os.kill(ray.get(seats["a"].host.pid.remote()), signal.SIGKILL)
        second = all_rounds()
        assert second[:3] != first[:3]

        stays, moves = seats["a"], next(seat for seat in seats.values() if seat.host is not seats["a"].host)
        moves.close()
        moved = HostClient([moves.host], PAIR, 0, "moved")
        moved.load(stays.state())
        assert moved.round().loss == stays.round().loss
        assert moved.state() == stays.state()
    finally:
        for host in hosts:
            ray.kill(host)
