"""Faults of a host in a process of its own: they reach one trial, cost a round, or send trials to another host."""

from __future__ import annotations

import errno
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from trainables.core import Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.runtime.host_actor import HostProcess
from trainables.runtime.host_client import FreeSeatsCallback, HostClient, answers
from trainables.tasks.arena.task import ArenaTask

PAIR = Pair(LoraConfig(steps_per_round=3), ArenaTask(train_size=20, search_size=10, test_size=10), "builtin:tiny")
PLAIN = ("builtin:tiny", Shape(seats=2, lanes=16, max_rank=16, max_prompt=0), 1)


def started(kind: type[HostProcess], *args: Any) -> Any:
    return ray.remote(kind).options(num_cpus=0, max_restarts=-1, max_concurrency=6).remote(*args)


class NoDiskForOne(HostProcess):
    """The adapter of the trial `unlucky` is larger than what is left of the disk."""

    def __init__(self) -> None:
        files = Host.files

        def written(host: Host, trial_id: str) -> dict[str, bytes]:
            if trial_id == "unlucky":
                raise OSError(errno.ENOSPC, "No space left on device")
            return files(host, trial_id)

        Host.files = written  # type: ignore[method-assign]
        super().__init__(*PLAIN)


def test_a_reply_that_cannot_be_made_is_one_trial_s_fault(ray_session):
    host = started(NoDiskForOne)
    seats = {name: HostClient([host], PAIR, 0, name) for name in ("unlucky", "lucky")}
    asked = {name: host.advance.remote(name) for name in seats}
    with pytest.raises(OSError, match="No space left"):
        ray.get(asked["unlucky"], timeout=60)
    assert ray.get(asked["lucky"], timeout=60).trained.metrics["steps"] == 3
    assert ray.get(host.evaluate.remote("unlucky", "search"), timeout=60).score >= 0, "it still has its seat"
    ray.kill(host)


class BreaksOnce(HostProcess):
    """Its thread raises an unexpected error as soon as the file `broken` exists, and reports it, unless it cannot."""

    def __init__(self, broken: Path) -> None:
        busy = Host.busy.fget
        assert busy is not None

        def breaks(host: Host) -> bool:
            if broken.exists():
                silenced = broken.read_text() == "silenced"
                broken.unlink()
                if silenced:
                    sys.stderr.close()
                raise RuntimeError("planted")
            return busy(host)

        Host.busy = property(breaks)  # type: ignore[method-assign, assignment]
        super().__init__(*PLAIN)


@pytest.mark.parametrize("how", ["", "silenced"])
def test_a_host_whose_thread_breaks_is_restarted(ray_session, tmp_path, how):
    broken = tmp_path / "broken"
    host = started(BreaksOnce, broken)
    seat = HostClient([host], PAIR, 0, "a")
    losses, first = [seat.round().loss], ray.get(host.pid.remote())
    broken.write_text(how)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(host.advance.remote("a"), timeout=60)
    losses += [seat.round().loss, seat.round().loss]
    assert ray.get(host.pid.remote()) != first
    seat.close()
    unharmed = HostClient([host], PAIR, 0, "b")
    assert [unharmed.round().loss for _ in range(3)] == losses
    ray.kill(host)


class WithoutBase(HostProcess):
    """A host whose machine lacks the base: Ray does not try again where a constructor raises."""

    def __init__(self) -> None:
        raise OSError("no such base")


def test_a_host_that_is_gone_for_good_sends_trials_to_the_others(ray_session):
    """Where it never came up, and where it goes after a round: the trial goes on elsewhere from that round."""
    missing, well, other = started(WithoutBase), started(HostProcess, *PLAIN), started(HostProcess, *PLAIN)
    seat = HostClient([missing, well, other], PAIR, 0, "a")
    losses = [seat.round().loss]
    ray.kill(well if seat.host == well else other)
    losses += [seat.round().loss]
    seat.close()
    unharmed = HostClient([missing, well, other], PAIR, 0, "b")
    assert [unharmed.round().loss for _ in range(2)] == losses
    with pytest.raises(ray.exceptions.RayActorError, match="no such base"):
        HostClient([missing], PAIR, 0, "c")
    for host in (well, other):
        ray.kill(host)


def test_a_trial_waits_until_another_has_ended(ray_session, monkeypatch):
    """However long that takes, as where a sweep goes on with fewer seats; and its process may have left no word."""
    monkeypatch.setattr("trainables.runtime.host_client.WAIT_FOR_HOST_S", 0.5)
    host = started(HostProcess, "builtin:tiny", Shape(seats=1, lanes=16, max_rank=16, max_prompt=0), 1)
    while not answers(host):
        pass
    HostClient([host], PAIR, 0, "first")
    with ThreadPoolExecutor() as pool:
        try:
            waiting = pool.submit(HostClient, [host], PAIR, 0, "second")
            with pytest.raises(TimeoutError):
                waiting.result(timeout=3)
            assert not waiting.done()
            FreeSeatsCallback([host]).on_trial_complete(0, [], SimpleNamespace(trial_id="first"))
            assert waiting.result(timeout=60).round().metrics["steps"] == 3
        finally:
            ray.kill(host)  # and nobody waits any more
