"""A GPU's own error, which no later work of its process survives: another process goes on, with all of its trials."""

from __future__ import annotations

import ray

from tests.support.worker_group_kit import SEED, assert_same, pair
from trainables.packed.specs import Shape, WorkerGroupShape
from trainables.runtime.host_actor import start_hosts
from trainables.runtime.host_client import HostClient
from trainables.runtime.trial import open_learner
from trainables.runtime.worker_group import WorkerGroup


def losses(learner):
    return [learner.round().loss for _ in range(3)]


def test_the_trials_of_a_host_go_on_in_its_successor(ray_session, tmp_path):
    """The one whose work failed, and its neighbour."""
    hosts = start_hosts("builtin:tiny", Shape(seats=2, lanes=16, max_rank=16, max_prompt=0), 1)
    seats = {
        name: HostClient(hosts, pair(*planted, marks=tmp_path), SEED, name)
        for name, planted in (("x", ["device"]), ("y", []))
    }
    first, seen = ray.get(hosts[0].pid.remote()), {name: losses(seat) for name, seat in seats.items()}
    assert (tmp_path / "device").exists()
    assert ray.get(hosts[0].pid.remote()) != first
    for seat in seats.values():
        seat.close()
    unharmed = HostClient(hosts, pair(), SEED, "again")
    assert seen == dict.fromkeys(seats, losses(unharmed))
    ray.kill(hosts[0])


def test_a_trial_with_a_process_of_its_own_goes_on_in_another(ray_session, tmp_path):
    alone = open_learner(pair(), SEED)
    expected = [(alone.round().loss, alone.evaluate().items) for _ in range(3)]
    alone.close()
    group = WorkerGroup(WorkerGroupShape(1), pair("device", marks=tmp_path), SEED)
    assert_same(group, expected)
    assert (tmp_path / "device").exists()
    group.shut_down()
