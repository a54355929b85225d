"""A trial's connection to a host in another process.

Imports no torch: the trial's process sends its configuration and gets results, checkpoints and adapters as bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray import tune
from ray.exceptions import ActorUnavailableError, GetTimeoutError, OutOfMemoryError, RayActorError

from trainables.core import Evaluation, Pair, RoundResult, Split
from trainables.packed.specs import HostFull, SeatLost, SeatReply, write_files

MAX_PAUSE_S = 5.0  # between two attempts to get a seat while all are taken
WAIT_FOR_HOST_S = 1800.0  # for a rented machine to start, set up and load a large base
ANSWER_S = 5.0  # a host that does not answer in time is loading its base, or has no machine
MOVE_S = 60.0  # after which a trial looks for another host instead of waiting for its own to restart
MAX_RESTARTS = 3  # of the host, within one call of one trial


def answers(host: Any, within_s: float = ANSWER_S) -> bool:
    """Return whether a host answers in time. While Ray starts or restarts it, calls wait or are refused.

    Raise RayActorError if it never will, for example because its base cannot be loaded.
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


def paused(trials: Iterable[Any]) -> set[str]:
    """Return the ids of the trials of Tune that are paused. Tune makes no call when it pauses one."""
    return {trial.trial_id for trial in trials if trial.status == tune.experiment.Trial.PAUSED}


class FreeSeatsCallback(tune.Callback):
    """Frees the seats of paused and ended trials, as other trials may wait for them.

    A killed process frees none, and one that Tune keeps for another trial frees its seat only then. A trial that goes
    on takes a seat again.
    """

    def __init__(self, hosts: Sequence[Any]) -> None:
        self._hosts = hosts
        self._paused: set[str] = set()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        now = paused(trials)
        for trial_id in now - self._paused:
            self._free(trial_id)
        self._paused = now

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._free(trial.trial_id)

    on_trial_error = on_trial_complete

    def _free(self, trial_id: str) -> None:
        for host in self._hosts:
            host.close.remote(trial_id)


class HostClient:
    """A `Learner` whose work is done in a host. If the host dies, the current round is repeated."""

    def __init__(self, hosts: Sequence[Any], pair: Pair, seed: int, trial_id: str, searching: bool = True) -> None:
        self._pair, self._seed, self._id, self._searching = pair, seed, trial_id, searching
        self._state: bytes | None = None
        self._reply: SeatReply | None = None  # of the last round, as long as nothing has changed since
        first = sum(trial_id.encode()) % len(hosts)  # so that trials begin with different hosts
        self._hosts = [*hosts[first:], *hosts[:first]]
        self.host = self._take_seat()

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

    def _take_seat(self) -> Any:
        """Open the trial in the first host that answers and has a free seat, and return the host.

        Wait for a host as long as a machine may take to start, and for a seat as long as other trials hold all of them:
        Tune starts a trial before the process of the last one has ended, and a sweep that resumes with fewer seats than
        before starts all its running trials at once.
        """
        patience_s, pause_s, end = ANSWER_S, 0.1, time.monotonic() + WAIT_FOR_HOST_S
        while True:
            up = [host for host in self._hosts if self._answers(host, patience_s)]
            patience_s = ANSWER_S if len(up) == len(self._hosts) else 0.5
            for host in up:
                self._free(host)  # it may be held by an earlier process of this trial
            for host in up:
                self.host = host
                try:
                    self._remote_call("open", self._pair, self._seed)
                    return host
                except RayActorError:  # the next loop finds out whether it is dead
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
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def _answers(self, host: Any, within_s: float) -> bool:
        """Return whether a host answers. Forget a dead host; raise RayActorError if it was the last."""
        try:
            return answers(host, within_s)
        except RayActorError:
            self._hosts = [one for one in self._hosts if one != host]
            if not self._hosts:
                raise
            return False

    def _reopen(self, method: str) -> None:
        """Open the trial in its restarted host or in another, and load the last finished round (`load` does so)."""
        if self._answers(self.host, MOVE_S):
            self._remote_call("open", self._pair, self._seed)
        else:
            self._take_seat()
        if self._state is not None and method != "load":
            self._remote_call("load", self._state)

    def _free(self, host: Any) -> None:
        """Free the trial's seat in a host; a dead host has none."""
        with suppress(RayActorError):
            ray.get(host.close.remote(self._id))

    def _call(self, method: str, *args: Any) -> Any:
        """Call the host. After it died, get a seat again and continue from the last finished round."""
        for attempt in range(MAX_RESTARTS + 1):
            try:
                if attempt:
                    self._reopen(method)
                return self._remote_call(method, *args)
            except (RayActorError, OutOfMemoryError, SeatLost):
                if attempt == MAX_RESTARTS:
                    raise
        raise AssertionError("unreachable")

    def _remote_call(self, method: str, *args: Any) -> Any:
        try:
            return ray.get(getattr(self.host, method).remote(self._id, *args))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
