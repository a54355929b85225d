"""A host in a Ray actor: its methods queue calls, and one thread executes them.

So every tick works for all trials that wait. `HostClient` is the other end, in the trials' processes.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import ray

from trainables.core import Evaluation, Pair, RoundResult, Split
from trainables.packed.specs import SeatLost, SeatReply, Shape

WAIT_FOR_OTHERS_S = (
    0.2  # how long a tick waits for trials that just got a reply: Tune's controller takes 20 ms a result
)
RETRIES = 30  # of `untouched`; Ray uses up one every second or two while it restarts the host


class HostProcess:
    """Executes the calls of many threads in a single one. A reply to `advance` has a round's results and checkpoint."""

    def __init__(self, base: str, shape: Shape, threads: int) -> None:
        import torch

        from trainables.models.loading import load
        from trainables.packed.host import Host
        from trainables.runtime.base_transfer import fetch_base

        torch.set_num_threads(threads)
        self._host = Host(load(fetch_base(base)), shape)
        self._inbox: queue.SimpleQueue[tuple[Callable[[], Any], Future]] = queue.SimpleQueue()
        self._waiting: dict[str, Future] = {}
        self._rounds: dict[str, RoundResult] = {}  # of trials whose evaluation is in progress
        self._open: set[str] = set()
        self._searching: set[str] = set()  # trials whose rounds end with an evaluation
        self._answered = 0.0
        threading.Thread(target=self._work, daemon=True).start()

    def open(self, trial_id: str, pair: Pair, seed: int) -> None:
        """Give a trial a seat. Raise HostFull."""

        def take() -> None:
            self._free(trial_id)
            learner: Any = pair.learner.build(self._host.base, pair.task, seed)
            self._host.open(trial_id, learner, seed)
            self._open.add(trial_id)

        self._call(take)

    def advance(self, trial_id: str, searching: bool = True) -> SeatReply:
        """Train a round and, if `searching`, evaluate it on the search split."""

        def start() -> None:
            (self._searching.add if searching else self._searching.discard)(trial_id)
            self._host.start(trial_id, "round")

        return self._start_work(trial_id, start)

    def evaluate(self, trial_id: str, split: Split) -> Evaluation:
        return self._start_work(trial_id, lambda: self._host.start(trial_id, "evaluate", split))

    @ray.method(max_task_retries=RETRIES)
    def untouched(self, pair: Pair, seed: int) -> dict[str, Any]:
        """Return the untouched base's evaluation as a flat dictionary."""

        def measure() -> dict[str, Any]:
            learner: Any = pair.learner.build(self._host.base, pair.task, seed)
            return self._host.evaluate_untouched(learner).flat()

        return self._call(measure)

    def reply(self, trial_id: str) -> SeatReply:
        """Return the trial's current checkpoint and adapter, without a round."""
        return self._call(lambda: self._reply(self._checked(trial_id)))

    def load(self, trial_id: str, state: bytes) -> None:
        self._call(lambda: self._host.load(self._checked(trial_id), state))

    def close(self, trial_id: str) -> None:
        self._call(lambda: self._free(trial_id))

    def pid(self) -> int:
        return os.getpid()

    def _free(self, trial_id: str) -> None:
        """Free the seat. A call that still waits was made by a process that has died."""
        self._host.close(trial_id)
        self._open.discard(trial_id)
        self._rounds.pop(trial_id, None)
        if waiting := self._waiting.pop(trial_id, None):
            waiting.set_exception(SeatLost(f"trial {trial_id!r} has left its seat"))

    def _checked(self, trial_id: str) -> str:
        if trial_id not in self._open:
            raise SeatLost(f"trial {trial_id!r} has no seat in this host; open one")
        return trial_id

    def _call(self, do: Callable[[], Any]) -> Any:
        future: Future = Future()
        self._inbox.put((lambda: future.set_result(do()), future))
        return future.result()

    def _start_work(self, trial_id: str, start: Callable[[], None]) -> Any:
        future: Future = Future()

        def begin() -> None:
            self._checked(trial_id)
            start()
            self._waiting[trial_id] = future

        self._inbox.put((begin, future))
        return future.result()

    def _work(self) -> None:
        """Execute calls for ever. If this thread fails, the process exits, and Ray restarts it."""
        try:
            while True:
                self._execute_once()
        except BaseException:
            traceback.print_exc()  # which fails itself where stderr is closed
        finally:
            os._exit(1)

    def _execute_once(self) -> None:
        self._execute_calls(wait=not self._host.busy)
        while self._host.busy and self._others_may_come():
            self._execute_calls(wait=True, timeout=WAIT_FOR_OTHERS_S)
        if not self._host.busy:
            return
        try:
            results = self._host.tick()
        except Exception as error:  # in the host itself: it is the result of every waiting trial
            results = dict.fromkeys(self._waiting, exit_if_device_lost(error))
        for trial_id, result in results.items():
            self._answer(trial_id, result)

    def _execute_calls(self, wait: bool, timeout: float | None = None) -> None:
        """Execute the queued calls; if `wait`, wait for the first."""
        try:
            do, future = self._inbox.get(wait, timeout)
            while True:
                try:
                    do()
                except Exception as error:
                    future.set_exception(exit_if_device_lost(error))
                do, future = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _others_may_come(self) -> bool:
        """Return whether an idle trial just got a reply, so that it may soon call again and share the next tick."""
        return bool(self._open - self._waiting.keys()) and time.monotonic() - self._answered < WAIT_FOR_OTHERS_S

    def _answer(self, trial_id: str, result: Any) -> None:
        """Answer the trial's waiting call, unless its round continues with an evaluation."""
        try:
            if isinstance(result, Exception):
                raise result
            reply = self._reply_or_evaluate(trial_id, result)
        except Exception as error:  # also while making the reply: no memory for the state, no disk for files
            self._host.drop(trial_id)
            self._rounds.pop(trial_id, None)
            self._waiting.pop(trial_id).set_exception(exit_if_device_lost(error))
        else:
            if reply is None:
                return
            self._waiting.pop(trial_id).set_result(reply)
        self._answered = time.monotonic()

    def _reply_or_evaluate(self, trial_id: str, result: RoundResult | Evaluation) -> SeatReply | Evaluation | None:
        """The reply to a trial; None for a finite round of a trial that searches, as its evaluation comes next."""
        if isinstance(result, Evaluation):
            if trial_id not in self._rounds:
                return result
            return self._reply(trial_id, self._rounds.pop(trial_id), result)
        if math.isfinite(result.loss) and trial_id in self._searching:
            self._host.start(trial_id, "evaluate")
            self._rounds[trial_id] = result
            return None
        return self._reply(trial_id, result)

    def _reply(
        self, trial_id: str, trained: RoundResult | None = None, evaluation: Evaluation | None = None
    ) -> SeatReply:
        return SeatReply(self._host.state(trial_id), self._host.files(trial_id), trained, evaluation)


def exit_if_device_lost(error: Exception) -> Exception:
    """Return the exception, or exit the process if its GPU is lost; trials then continue in the restarted host."""
    from trainables.training.oom import is_device_lost

    if is_device_lost(error):
        raise SystemExit("the device is lost to this process") from error
    return error


def start_hosts(base: str, shape: Shape, count: int, threads: int = 1, gpus: float = 0, memory: int = 0) -> list[Any]:
    """Start `count` hosts with the same base and shape. Ray restarts them when they die.

    `memory`: bytes for which each asks Ray, so that it starts where they are; 0: none.
    """
    actor = ray.remote(HostProcess).options(
        num_cpus=threads, num_gpus=gpus, memory=memory or None, max_restarts=-1, max_concurrency=shape.seats + 4
    )
    return [actor.remote(base, shape, threads) for _ in range(count)]
