"""`Seat`: what a trial holds of a host in another process.

Imports no torch: a trial's process sends its configuration and gets metrics, checkpoints and adapters as bytes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray import tune
from ray.exceptions import ActorUnavailableError, RayActorError

from trainables.core import Pair, Split
from trainables.shape import HostFull, SeatLost, write_files

WAIT_FOR_SEAT_S = 60.0
WAIT_FOR_HOST_S = 300.0  # a large base takes minutes to load again
MAX_RESTARTS = 3  # of the host, within one call of one trial


def wait_for(host: Any) -> None:
    """Until a host answers: while Ray restarts it, all calls are turned away. Raises RayActorError if it stays away."""
    end = time.monotonic() + WAIT_FOR_HOST_S
    while True:
        try:
            ray.get(host.pid.remote())
            return
        except ActorUnavailableError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


class FreeSeats(tune.Callback):
    """Frees the seat of a trial that ended without a word, as a killed process does."""

    def __init__(self, hosts: Sequence[Any]) -> None:
        self._hosts = hosts

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for host in self._hosts:
            host.close.remote(trial.trial_id)


class Seat:
    """A trial's place in a host, seen as a `Learner`. A host that dies costs the round it was in, no more."""

    def __init__(self, hosts: Sequence[Any], pair: Pair, seed: int, trial_id: str, searching: bool = True) -> None:
        self._pair, self._seed, self._id, self._searching = pair, seed, trial_id, searching
        self._state: bytes | None = None
        self._reply: Mapping[str, Any] = {}
        self._host = self._take(hosts)

    def round(self) -> dict[str, Any]:
        self._reply = self._call("advance", self._searching)
        self._state = self._reply["state"]
        return dict(self._reply["round"])

    def evaluate(self, split: Split = "search") -> dict[str, Any]:
        if split == "search" and self._reply.get("search"):
            return self._reply["search"]
        return self._call("evaluate", split)

    def state(self) -> bytes:
        self._fetch()
        return self._reply["state"]

    def load(self, state: bytes) -> None:
        self._state, self._reply = state, {}
        self._call("load", state)

    def save(self, folder: str) -> None:
        self._fetch()
        write_files(folder, self._reply["adapter"])

    def close(self) -> None:
        self._free(self._host)

    def _fetch(self) -> None:
        if "state" not in self._reply:
            self._reply = self._call("reply")

    def _take(self, hosts: Sequence[Any]) -> Any:
        """The first host with a free seat, looked for from a place that differs between trials.

        Waits for one: Tune starts a trial before the process of the last one has left.
        """
        first = sum(self._id.encode()) % len(hosts)
        for host in hosts:
            self._free(host)  # a process of this trial that died left its seat
        end = time.monotonic() + WAIT_FOR_SEAT_S
        while True:
            for host in (*hosts[first:], *hosts[:first]):
                self._host = host
                try:
                    self._call("open", self._pair, self._seed)
                    return host
                except HostFull as full:
                    if not full.may_wait or time.monotonic() > end:
                        raise
            time.sleep(0.1)

    def _return(self, method: str) -> None:
        """To a host that died, as far as `method` does not do so itself."""
        wait_for(self._host)
        if method == "open":
            return
        ray.get(self._host.open.remote(self._id, self._pair, self._seed))
        if self._state is not None and method != "load":
            ray.get(self._host.load.remote(self._id, self._state))

    def _free(self, host: Any) -> None:
        """A host that is gone has nothing to free."""
        with suppress(RayActorError):
            ray.get(host.close.remote(self._id))

    def _call(self, method: str, *args: Any) -> Any:
        """Ask the host; after it has died, take the seat again in its successor, from the last finished round."""
        for attempt in range(MAX_RESTARTS + 1):
            try:
                if attempt:
                    self._return(method)
                return ray.get(getattr(self._host, method).remote(self._id, *args))
            except (RayActorError, SeatLost):
                if attempt == MAX_RESTARTS:
                    raise
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
        raise AssertionError("unreachable")
