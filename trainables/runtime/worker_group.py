"""`Team`: a trial whose work is done by other processes: one on any node, or several, each with a device (`spread.py`).

Ray Train starts and connects several. The trial stays the one that drives: the processes wait at a desk for its next
order, do it together, and the first of them answers. They outlive their trial: the next one of the same Ray actor finds
them started.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from trainables.core import Evaluation, Pair, RoundResult, Split
from trainables.packed.specs import WorkerGroupShape, read_files, write_files
from trainables.runtime.open_learner import open_in_process

START_S = 1800  # that processes may wait for their machines, which may have yet to be rented
MAX_RESTARTS = 3  # of the processes, within one order


class CommandBroker:
    """An actor between a trial and its processes: every order goes to all of them, and one answers."""

    def __init__(self, processes: int) -> None:
        self._orders: list[asyncio.Queue] = [asyncio.Queue() for _ in range(processes)]
        self._answers: asyncio.Queue = asyncio.Queue()

    async def order(self, *order: Any) -> Any:
        for queue in self._orders:
            queue.put_nowait(order)
        return await self._answers.get()

    async def next(self, rank: int) -> Any:
        return await self._orders[rank].get()

    async def answer(self, answer: Any) -> None:
        self._answers.put_nowait(answer)


class SingleWorker:
    """A crew of one: an actor, wherever there is room."""

    def __init__(self, shape: WorkerGroupShape) -> None:
        self.alive = True
        anywhere = {"scheduling_strategy": "DEFAULT"}  # not in the room of the trial, which is none
        self._hand: Any = ray.remote(Worker).options(num_cpus=shape.cpus, num_gpus=shape.gpus, **anywhere).remote()

    def order(self, *order: Any) -> Any:
        """Raises what the process failed with; RayActorError where it died."""
        try:
            return ray.get(self._hand.do.remote(*order))
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError:
            self.alive = False
            raise

    def end(self) -> None:
        ray.kill(self._hand)


class RayTrainWorkers:
    """The processes of one Ray Train run, until it ends. One order at a time."""

    def __init__(self, shape: WorkerGroupShape) -> None:
        self._shape = shape
        self._desk: Any = ray.remote(CommandBroker).options(num_cpus=0).remote(shape.processes)
        self._run: Future[None] = Future()  # an executor's thread would keep this process from ending
        threading.Thread(target=self._train, daemon=True).start()

    @property
    def alive(self) -> bool:
        return not self._run.done()

    def order(self, *order: Any) -> Any:
        """What the first process answers. Raises what a process failed with; RayActorError where one died."""
        answer = self._desk.order.remote(*order)
        try:
            return ray.get(answer)
        except RayActorError as gone:  # the desk, and with it the processes, or after them
            raise (_cause(self._run.exception()) or gone) from None

    def end(self) -> None:
        self._desk.order.remote("end")
        self._run.exception()

    def _train(self) -> None:
        """The thread's work. Whatever ends it ends the desk too: who waits there for an answer hears of it, and why."""
        try:
            self._fit()
            self._run.set_result(None)
        except BaseException as error:
            self._run.set_exception(error)
        finally:
            ray.kill(self._desk)

    def _fit(self) -> None:
        """Ray Train's run, from its start to its end."""
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.config import FailureConfig

        # Private to Ray Train, as are the attributes in `_cause`: tests/e2e/test_private_names.py.
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_S))
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # new processes would know of no order
        shape = self._shape
        each = {"CPU": shape.cpus} | ({"GPU": shape.gpus} if shape.gpus else {})
        scaling = ScalingConfig(num_workers=shape.processes, use_gpu=bool(shape.gpus), resources_per_worker=each)
        never_again = FailureConfig(max_failures=0, max_preemption_failures=0, controller_failure_limit=0)
        # Ray Train's own; that it still writes there is not what a run failed with.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as notes:
            trainer = TorchTrainer(
                worker_loop,
                train_loop_config={"desk": self._desk},
                scaling_config=scaling,
                run_config=RunConfig(name="team", storage_path=notes, failure_config=never_again),
            )
            trainer.fit()


class Worker:
    """One process: opens a pair's learner, on `device` with others or by itself, then calls its methods, as ordered."""

    def __init__(self, device: Any = None) -> None:
        self._device, self._learner = device, None  # type: Any, Any

    def do(self, name: str, *arguments: Any) -> Any:
        if name == "open":
            self._learner = None  # before there is a second model
            self._learner = self._opened(*arguments)
            return None
        if name == "files":
            with tempfile.TemporaryDirectory() as folder:
                self._learner.save(folder)
                return read_files(folder)
        try:
            return getattr(self._learner, name)(*arguments)
        except RuntimeError as fault:
            from trainables.training.oom import is_device_lost

            if self._device is None and is_device_lost(fault):  # else Ray Train ends all of them
                os._exit(1)  # the trial goes on in another process
            raise

    def _opened(self, pair: Pair, seed: int, strategy: Any, halvings: int) -> Any:
        if pair.learner.needs_base:
            from trainables.runtime.base_transfer import fetch_base

            fetch_base(pair.base)
        if self._device is None:
            return open_in_process(pair, seed)
        from trainables.training.distributed import open_distributed

        return open_distributed(pair, seed, strategy, halvings, device=self._device)


def worker_loop(config: dict[str, Any]) -> None:
    """What every process of a crew does."""
    from ray.train import get_context
    from ray.train.torch import get_device

    desk, rank, hand = config["desk"], get_context().get_world_rank(), Worker(get_device())
    while True:
        name, *arguments = ray.get(desk.next.remote(rank))
        if name == "end":
            return
        answer = hand.do(name, *arguments)
        if rank == 0:
            ray.get(desk.answer.remote(answer))


def _cause(error: BaseException | None) -> BaseException | None:
    """What a run of Ray Train failed with: of several processes' failures, the first cause.

    None where all that is known is that they have lost another.
    """
    failures = getattr(error, "worker_failures", None) or ({} if error is None else {0: error})
    # Of a process that died, a private error of Ray Train, known by its attribute.
    causes = [getattr(failure, "health_check_failure", failure) for failure in failures.values()]
    died = [cause for cause in causes if isinstance(cause, RayActorError)]
    own = [cause for cause in causes if not any(name in str(cause) for name in ("gloo", "NCCL"))]
    return next(iter([*died, *own]), None)


class WorkerGroup:
    """A `Learner` whose work a crew does. Processes that die, or run out of memory, cost the round they were in."""

    workers: RayTrainWorkers | SingleWorker | None = None  # of this process: it is kept from trial to trial

    def __init__(self, shape: WorkerGroupShape, pair: Pair, seed: int) -> None:
        self._shape, self._pair, self._seed, self._halvings = shape, pair, seed, 0
        self._past: list[tuple[Any, ...]] | None = None  # the orders that lead from the beginning to here
        self._order(*self._open())
        self._past = []

    def round(self) -> RoundResult:
        result = self._order("round")
        self._past = [*(self._past or []), ("round",)]
        return result

    def evaluate(self, split: Split = "search") -> Evaluation:
        return self._order("evaluate", split)

    def state(self) -> bytes:
        state = self._order("state")
        self._past = [("load", state)]
        return state

    def load(self, state: bytes) -> None:
        self._order("load", state)
        self._past = [("load", state)]

    def save(self, folder: str) -> None:
        write_files(folder, self._order("files"))

    def close(self) -> None:
        if WorkerGroup.workers is not None and WorkerGroup.workers.alive:
            with suppress(RayActorError):  # then there is nothing to close
                WorkerGroup.workers.order("close")

    @staticmethod
    def dismiss() -> None:
        """Let the processes go, where no trial is to follow."""
        if WorkerGroup.workers is not None and WorkerGroup.workers.alive:
            WorkerGroup.workers.end()
        WorkerGroup.workers = None

    def _open(self) -> tuple[Any, ...]:
        return "open", self._pair, self._seed, self._shape.strategy, self._halvings

    def _order(self, *order: Any) -> Any:
        """Do it; by new processes, brought to where the last were, if those die or run out of memory."""
        restarts = 0
        while True:
            try:
                if WorkerGroup.workers is None or not WorkerGroup.workers.alive:
                    WorkerGroup.workers = (RayTrainWorkers if self._shape.processes > 1 else SingleWorker)(self._shape)
                    if self._past is not None:
                        for past in (self._open(), *self._past):
                            WorkerGroup.workers.order(*past)
                return WorkerGroup.workers.order(*(order if order[0] != "open" else self._open()))
            except RayActorError:
                restarts += 1
                if restarts > MAX_RESTARTS:
                    raise
            except Exception as fault:
                if self._shape.processes == 1:  # it has seen to that itself
                    raise
                from trainables.training.oom import MAX_HALVINGS, is_out_of_memory

                if not is_out_of_memory(fault) or self._halvings == MAX_HALVINGS:
                    raise
                self._halvings += 1
