"""`Seat`: what a trial holds of a host in another process.

Imports no torch: a trial's process sends its configuration and gets metrics, checkpoints and adapters as bytes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray import tune
from ray.exceptions import ActorUnavailableError, GetTimeoutError, OutOfMemoryError, RayActorError

from trainables.core import Evaluation, Pair, RoundResult, Split
from trainables.packed.specs import HostFull, SeatLost, SeatReply, write_files

LOOK_S = 5.0  # at most, between two looks for a seat where all are taken
WAIT_FOR_HOST_S = 1800.0  # a rented machine that starts, with its set-up and a large base
ANSWER_S = 5.0  # a host that is silent for so long is loading its base, or has no machine yet, or none any more
MOVE_S = 60.0  # after which a trial goes to another host, if one has a seat, rather than wait for its own to return
MAX_RESTARTS = 3  # of the host, within one call of one trial


def answers(host: Any, within_s: float = ANSWER_S) -> bool:
    """Whether a host answers; while Ray starts or restarts it, calls wait or are turned away.

    Raises RayActorError for one that will never answer, as where its base cannot be loaded.
    """
    end = time.monotonic() + within_s
    while True:
        try:
            ray.get(host.pid.remote(), timeout=max(0.1, end - time.monotonic()))
            return True
        except GetTimeoutError:
            return False
        except ActorUnavailableError:
            if time.monotonic() > end:
                return False
            time.sleep(0.2)


class FreeSeatsCallback(tune.Callback):
    """Frees the seat of a trial that ended without a word, as a killed process does: others may wait for it."""

    def __init__(self, hosts: Sequence[Any]) -> None:
        self._hosts = hosts

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for host in self._hosts:
            host.close.remote(trial.trial_id)

    on_trial_error = on_trial_complete


class HostClient:
    """A trial's place in a host, seen as a `Learner`. A host that dies costs the round it was in, no more."""

    def __init__(self, hosts: Sequence[Any], pair: Pair, seed: int, trial_id: str, searching: bool = True) -> None:
        self._pair, self._seed, self._id, self._searching = pair, seed, trial_id, searching
        self._state: bytes | None = None
        self._reply: SeatReply | None = None  # of the last round, as long as nothing has changed since
        first = sum(trial_id.encode()) % len(hosts)  # a place that differs between trials
        self._hosts = [*hosts[first:], *hosts[:first]]
        self.host = self._take()

    def round(self) -> RoundResult:
        reply: SeatReply = self._call("advance", self._searching)
        assert reply.trained is not None, "a host replies to `advance` with a round"
        self._reply, self._state = reply, reply.state
        return reply.trained

    def evaluate(self, split: Split = "search") -> Evaluation:
        if split == "search" and self._reply is not None and self._reply.evaluation is not None:
            return self._reply.evaluation
        return self._call("evaluate", split)

    def state(self) -> bytes:
        return self._last_reply().state

    def load(self, state: bytes) -> None:
        self._state, self._reply = state, None
        self._call("load", state)

    def save(self, folder: str) -> None:
        write_files(folder, self._last_reply().adapter)

    def close(self) -> None:
        self._free(self.host)

    def _last_reply(self) -> SeatReply:
        if self._reply is None:
            self._reply = self._call("reply")
        return self._reply

    def _take(self) -> Any:
        """The first host that answers and has a free seat, with this trial in it.

        Waits for a host as long as a machine may take to start, and for a seat as long as other trials have them all:
        Tune starts a trial before the process of the last one has left, and where a sweep goes on with fewer seats than
        it had, all that were running at once.
        """
        patience_s, pause_s, end = ANSWER_S, 0.1, time.monotonic() + WAIT_FOR_HOST_S
        while True:
            up = [host for host in self._hosts if self._answers(host, patience_s)]
            patience_s = ANSWER_S if len(up) == len(self._hosts) else 0.5
            for host in up:
                self._free(host)  # a process of this trial that died left its seat
            for host in up:
                self.host = host
                try:
                    self._ask("open", self._pair, self._seed)
                    return host
                except RayActorError:  # whether it is gone for good is asked next
                    continue
                except HostFull as refusal:
                    if not refusal.may_wait:
                        raise
                    end = time.monotonic() + WAIT_FOR_HOST_S
            if time.monotonic() > end:
                raise TimeoutError(
                    f"none of {len(self._hosts)} hosts answered within {WAIT_FOR_HOST_S / 60:.0f} minutes: `ray status`"
                    " says what their machines wait for"
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_S)

    def _answers(self, host: Any, within_s: float) -> bool:
        """Whether it does. A host that never will is none any more; RayActorError where it was the last."""
        try:
            return answers(host, within_s)
        except RayActorError:
            self._hosts = [one for one in self._hosts if one != host]
            if not self._hosts:
                raise
            return False

    def _return(self, method: str) -> None:
        """To the host that died or another, from the last finished round, which `load` brings along itself."""
        if self._answers(self.host, MOVE_S):
            self._ask("open", self._pair, self._seed)
        else:
            self._take()
        if self._state is not None and method != "load":
            self._ask("load", self._state)

    def _free(self, host: Any) -> None:
        """A host that is gone has nothing to free."""
        with suppress(RayActorError):
            ray.get(host.close.remote(self._id))

    def _call(self, method: str, *args: Any) -> Any:
        """Ask the host; after it has died, take a seat again, from the last finished round."""
        for attempt in range(MAX_RESTARTS + 1):
            try:
                if attempt:
                    self._return(method)
                return self._ask(method, *args)
            except (RayActorError, OutOfMemoryError, SeatLost):
                if attempt == MAX_RESTARTS:
                    raise
        raise AssertionError("unreachable")

    def _ask(self, method: str, *args: Any) -> Any:
        try:
            return ray.get(getattr(self.host, method).remote(self._id, *args))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
