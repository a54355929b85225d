"""A trial whose work is done by other processes: one on any node, or several with a device each (`distributed.py`).

Ray Train starts and connects several. The trial sends commands through a broker actor; all processes execute each
command together, and the first of them answers. The processes outlive their trial: the next trial of the same Ray actor
reuses them.
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

START_S = 1800  # how long processes may wait for their machines, which may have to be rented first
MAX_RESTARTS = 3  # of the processes, within one command


class CommandBroker:
    """An actor between a trial and its processes: it sends every command to all of them, and takes one answer."""

    def __init__(self, processes: int) -> None:
        self._commands: list[asyncio.Queue] = [asyncio.Queue() for _ in range(processes)]
        self._answers: asyncio.Queue = asyncio.Queue()

    async def execute(self, *command: Any) -> Any:
        for queue in self._commands:
            queue.put_nowait(command)
        return await self._answers.get()

    async def next(self, rank: int) -> Any:
        return await self._commands[rank].get()

    async def answer(self, answer: Any) -> None:
        self._answers.put_nowait(answer)


class SingleWorker:
    """One process: a Ray actor on any node with free resources."""

    def __init__(self, shape: WorkerGroupShape) -> None:
        self.alive = True
        anywhere = {"scheduling_strategy": "DEFAULT"}  # not in the trial's placement group, which has no resources
        self._worker: Any = (
            ray.remote(Worker).options(num_cpus=shape.cpus, num_gpus=shape.gpus, **anywhere).remote(threads_of(shape))
        )

    def execute(self, *command: Any) -> Any:
        """Execute a command. Raise the process's exception, or RayActorError if it died."""
        try:
            return ray.get(self._worker.do.remote(*command))
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError:
            self.alive = False
            raise

    def end(self) -> None:
        ray.kill(self._worker)


class RayTrainWorkers:
    """The processes of one Ray Train run. They execute one command at a time."""

    def __init__(self, shape: WorkerGroupShape) -> None:
        self._shape = shape
        self._broker: Any = ray.remote(CommandBroker).options(num_cpus=0).remote(shape.processes)
        self._run: Future[None] = Future()  # not of an executor, whose thread would keep this process alive
        threading.Thread(target=self._train, daemon=True).start()

    @property
    def alive(self) -> bool:
        return not self._run.done()

    def execute(self, *command: Any) -> Any:
        """Return the first process's answer. Raise a process's exception, or RayActorError if one died."""
        answer = self._broker.execute.remote(*command)
        try:
            return ray.get(answer)
        except RayActorError as gone:  # of the broker, which is killed when the run ends
            raise (_cause(self._run.exception()) or gone) from None

    def end(self) -> None:
        self._broker.execute.remote("end")
        self._run.exception()

    def _train(self) -> None:
        """Run Ray Train in this thread. When it ends, kill the broker, so that a waiting call fails with the cause."""
        try:
            self._fit()
            self._run.set_result(None)
        except BaseException as error:
            self._run.set_exception(error)
        finally:
            ray.kill(self._broker)

    def _fit(self) -> None:
        """Start Ray Train, and wait until it ends."""
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.config import FailureConfig

        # Private to Ray Train, as are the attributes in `_cause`: tests/e2e/test_private_names.py.
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_S))
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # new processes would lack state
        shape = self._shape
        each = {"CPU": shape.cpus} | ({"GPU": shape.gpus} if shape.gpus else {})
        scaling = ScalingConfig(num_workers=shape.processes, use_gpu=bool(shape.gpus), resources_per_worker=each)
        no_retries = FailureConfig(max_failures=0, max_preemption_failures=0, controller_failure_limit=0)
        # For Ray Train's files. It may still write there at the end, which is no failure of the run.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            trainer = TorchTrainer(
                worker_loop,
                train_loop_config={"broker": self._broker, "threads": threads_of(shape)},
                scaling_config=scaling,
                run_config=RunConfig(name="worker_group", storage_path=folder, failure_config=no_retries),
            )
            trainer.fit()


def threads_of(shape: WorkerGroupShape) -> int:
    """Return the threads of each process of a group: its whole cores, and at least one."""
    return max(1, int(shape.cpus))


class Worker:
    """Opens a pair's learner in this process (on `device`, as one of several) and calls its methods."""

    def __init__(self, threads: int, device: Any = None) -> None:
        self._threads, self._device, self._learner = threads, device, None  # type: int, Any, Any

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
        except RuntimeError as error:
            from trainables.training.oom import is_device_lost

            if self._device is None and is_device_lost(error):  # of several processes, Ray Train ends all
                os._exit(1)  # the trial continues in another process
            raise

    def _opened(self, pair: Pair, seed: int, strategy: Any, halvings: int) -> Any:
        import torch

        torch.set_num_threads(self._threads)
        if pair.learner.needs_base:
            from trainables.runtime.base_transfer import fetch_base

            fetch_base(pair.base)
        if self._device is None:
            return open_in_process(pair, seed)
        from trainables.training.distributed import open_distributed

        return open_distributed(pair, seed, strategy, halvings, device=self._device)


def worker_loop(config: dict[str, Any]) -> None:
    """Execute commands until `end`; Ray Train calls this in every process."""
    from ray.train import get_context
    from ray.train.torch import get_device

    broker, rank, worker = config["broker"], get_context().get_world_rank(), Worker(config["threads"], get_device())
    while True:
        name, *arguments = ray.get(broker.next.remote(rank))
        if name == "end":
            return
        answer = worker.do(name, *arguments)
        if rank == 0:
            ray.get(broker.answer.remote(answer))


def _cause(error: BaseException | None) -> BaseException | None:
    """Return the first cause of a failed Ray Train run, or None if processes only report that another one is lost."""
    failures = getattr(error, "worker_failures", None) or ({} if error is None else {0: error})
    # Ray Train wraps the error of a dead process in a private class, recognised by its attribute.
    causes = [getattr(failure, "health_check_failure", failure) for failure in failures.values()]
    died = [cause for cause in causes if isinstance(cause, RayActorError)]
    own = [cause for cause in causes if not any(name in str(cause) for name in ("gloo", "NCCL"))]
    return next(iter([*died, *own]), None)


class WorkerGroup:
    """A `Learner` whose work is done by other processes. If they die or run out of memory, the round is repeated."""

    workers: RayTrainWorkers | SingleWorker | None = None  # kept from trial to trial

    def __init__(self, shape: WorkerGroupShape, pair: Pair, seed: int) -> None:
        self._shape, self._pair, self._seed, self._halvings = shape, pair, seed, 0
        self._history: list[tuple[Any, ...]] | None = None  # the commands that restore the current state
        self._command(*self._open())
        self._history = []

    def round(self) -> RoundResult:
        result = self._command("round")
        self._history = [*(self._history or []), ("round",)]
        return result

    def evaluate(self, split: Split = "search") -> Evaluation:
        return self._command("evaluate", split)

    def state(self) -> bytes:
        state = self._command("state")
        self._history = [("load", state)]
        return state

    def load(self, state: bytes) -> None:
        self._command("load", state)
        self._history = [("load", state)]

    def save(self, folder: str) -> None:
        write_files(folder, self._command("files"))

    def close(self) -> None:
        if WorkerGroup.workers is not None and WorkerGroup.workers.alive:
            with suppress(RayActorError):  # then there is nothing to close
                WorkerGroup.workers.execute("close")

    @staticmethod
    def shut_down() -> None:
        """End the processes, if no trial is to follow."""
        if WorkerGroup.workers is not None and WorkerGroup.workers.alive:
            WorkerGroup.workers.end()
        WorkerGroup.workers = None

    def _open(self) -> tuple[Any, ...]:
        return "open", self._pair, self._seed, self._shape.strategy, self._halvings

    def _command(self, *command: Any) -> Any:
        """Execute a command. If the processes die or run out of memory, restart them, restore the state and repeat."""
        restarts = 0
        while True:
            try:
                if WorkerGroup.workers is None or not WorkerGroup.workers.alive:
                    WorkerGroup.workers = (RayTrainWorkers if self._shape.processes > 1 else SingleWorker)(self._shape)
                    if self._history is not None:
                        for earlier in (self._open(), *self._history):
                            WorkerGroup.workers.execute(*earlier)
                return WorkerGroup.workers.execute(*(command if command[0] != "open" else self._open()))
            except RayActorError:
                restarts += 1
                if restarts > MAX_RESTARTS:
                    raise
            except Exception as error:
                if self._shape.processes == 1:  # it halves its batches itself
                    raise
                from trainables.training.oom import MAX_HALVINGS, is_out_of_memory

                if not is_out_of_memory(error) or self._halvings == MAX_HALVINGS:
                    raise
                self._halvings += 1
