"""`Team`: a trial on several devices, by Ray Train, which starts a process on each and connects them (`spread.py`).

The trial stays the one that drives: the processes wait at a desk for its next order, do it together, and the first of
them answers. They outlive their trial, so that the next one of the same Ray actor finds them started.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError

from trainables.core import Pair, Split
from trainables.shape import TeamShape, write_files

START_S = 1800  # that processes may wait for their machines, which may have yet to be rented
LOOK_S = 0.5  # how often it is asked whether the processes of an order that is not answered live
MAX_RESTARTS = 3  # of the processes, within one order


class Desk:
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


class Crew:
    """The processes of one Ray Train run, until it ends. One order at a time."""

    def __init__(self, shape: TeamShape) -> None:
        self.shape = shape
        self._desk: Any = ray.remote(Desk).options(num_cpus=0).remote(shape.processes)
        self._fault: BaseException | None = None
        self._run = threading.Thread(target=self._train, daemon=True)
        self._run.start()

    @property
    def alive(self) -> bool:
        return self._run.is_alive()

    def order(self, *order: Any) -> Any:
        """What the first process answers. Raises what a process failed with; RayActorError where one died."""
        answer = self._desk.order.remote(*order)
        while not ray.wait([answer], timeout=LOOK_S)[0]:
            if not self.alive:
                raise self._fault or RuntimeError("the trial's processes have ended before they were told to")
        return ray.get(answer)

    def end(self) -> None:
        self._desk.order.remote("end")
        self._run.join()

    def _train(self) -> None:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_S))
        shape = self.shape
        each = {"CPU": shape.cpus} | ({"GPU": shape.gpus} if shape.gpus else {})
        scaling = ScalingConfig(num_workers=shape.processes, use_gpu=bool(shape.gpus), resources_per_worker=each)
        with tempfile.TemporaryDirectory() as notes:  # Ray Train's own
            trainer = TorchTrainer(
                take_orders,
                train_loop_config={"desk": self._desk},
                scaling_config=scaling,
                run_config=RunConfig(name="team", storage_path=notes),
            )
            try:
                trainer.fit()
            except Exception as error:
                self._fault = _cause(getattr(error, "worker_failures", {})) or error


def take_orders(config: dict[str, Any]) -> None:
    """What every process does: open a pair's learner, then call its methods, as ordered."""
    from ray.train import get_context
    from ray.train.torch import get_device

    from trainables.spread import open_spread

    desk, rank, learner = config["desk"], get_context().get_world_rank(), None
    while True:
        name, *arguments = ray.get(desk.next.remote(rank))
        if name == "end":
            return
        if name == "open":
            learner, answer = open_spread(*arguments, device=get_device()), None
        else:
            answer = getattr(learner, name)(*arguments)
        if rank == 0:
            ray.get(desk.answer.remote(answer))


def _cause(failures: Mapping[int, BaseException]) -> BaseException | None:
    """Of several processes' failures, the first cause: the others say that they have lost a process."""
    causes = [getattr(failure, "health_check_failure", failure) for failure in failures.values()]
    died = [cause for cause in causes if isinstance(cause, RayActorError)]
    own = [cause for cause in causes if not any(name in str(cause) for name in ("gloo", "NCCL"))]
    return next(iter([*died, *own, *causes]), None)


class Team:
    """A `Learner` whose work a crew does. Processes that die, or run out of memory, cost the round they were in."""

    _crew: Crew | None = None  # of this process: it is kept from trial to trial

    def __init__(self, shape: TeamShape, pair: Pair, seed: int) -> None:
        self._shape, self._pair, self._seed, self._halvings = shape, pair, seed, 0
        self._past: list[tuple[Any, ...]] | None = None  # the orders that lead from the beginning to here
        self._order(*self._open())
        self._past = []

    def round(self) -> dict[str, Any]:
        metrics = self._order("round")
        self._past = [*(self._past or []), ("round",)]
        return metrics

    def evaluate(self, split: Split = "search") -> dict[str, Any]:
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
        if Team._crew is not None and Team._crew.alive:
            Team._crew.order("close")

    def dismiss(self) -> None:
        """Let the processes go, where no trial is to follow."""
        if Team._crew is not None and Team._crew.alive:
            Team._crew.end()
        Team._crew = None

    def _open(self) -> tuple[Any, ...]:
        return "open", self._pair, self._seed, self._shape.strategy, self._halvings

    def _order(self, *order: Any) -> Any:
        """Do it; by new processes, brought to where the last were, if those die or run out of memory."""
        restarts = 0
        while True:
            try:
                if Team._crew is None or not Team._crew.alive:
                    Team._crew = Crew(self._shape)
                    if self._past is not None:
                        for past in (self._open(), *self._past):
                            Team._crew.order(*past)
                return Team._crew.order(*(order if order[0] != "open" else self._open()))
            except RayActorError:
                restarts += 1
                if restarts > MAX_RESTARTS:
                    raise
            except Exception as fault:
                from trainables.memory import HALVINGS, ran_out

                if not ran_out(fault) or self._halvings == HALVINGS:
                    raise
                self._halvings += 1
