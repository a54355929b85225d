"""Trials of Ray Tune in the driver's own process: the driver's work is measured without Ray's processes and messages.

`InProcessActors` takes the place of Ray's `RayActorManager` (2.60) in Tune's controller. Every call of a trial waits in
one queue, so trials that run side by side take turns, always in the same order.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any

from ray.air.execution._internal import TrackedActor
from ray.train.constants import RAY_CHDIR_TO_TRIAL_DIR
from ray.tune.execution import tune_controller

Event = tuple[TrackedActor, Callable[[], None]]


class Handle:
    """A trial as its Ray actor would look to Tune, which asks it for one thing by itself."""

    def __init__(self, trial: Any) -> None:
        self.trial = trial

    @property
    def get_auto_filled_metrics(self) -> Handle:
        return self

    def remote(self, **named: Any) -> dict[str, Any]:
        return self.trial.get_auto_filled_metrics(**named)


class InProcessActors:
    """Keeps trials as plain objects, and calls their methods one by one in `next`."""

    def __init__(self, resource_manager: Any) -> None:
        self._live_actors_to_ray_actors_resources: dict[TrackedActor, tuple[Handle, None]] = {}  # as Tune reads it
        self._pending: set[TrackedActor] = set()
        self._events: deque[Event] = deque()
        self._count = 0

    def call(self, do: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Do what a trial's process would do. Here, so that it can be measured apart."""
        return do(*args, **named)

    def next(self, timeout: float | None = None) -> bool:
        if not self._events:
            return False
        _, event = self._events.popleft()
        event()
        return True

    def add_actor(
        self, cls: Any, resource_request: Any, kwargs: Any, on_start: Any, on_stop: Any, on_error: Any
    ) -> Any:
        self._count += 1
        actor = TrackedActor(self._count, on_start, on_stop, on_error)

        def start() -> None:
            self._pending.discard(actor)
            made = self.call(cls.__ray_metadata__.modified_class, **kwargs)
            self._live_actors_to_ray_actors_resources[actor] = (Handle(made), None)
            on_start(actor)

        self._pending.add(actor)
        self._events.append((actor, start))
        return actor

    def remove_actor(self, tracked_actor: TrackedActor, kill: bool = False, stop_future: Any = None) -> bool:
        self.clear_actor_task_futures(tracked_actor)
        self._pending.discard(tracked_actor)
        live = self._live_actors_to_ray_actors_resources.pop(tracked_actor, None)
        if live is not None and tracked_actor._on_stop is not None:
            self._events.append((tracked_actor, lambda: tracked_actor._on_stop(tracked_actor)))
        return live is not None

    def schedule_actor_task(
        self,
        tracked_actor: TrackedActor,
        method_name: str,
        args: Any = (),
        kwargs: Any = None,
        on_result: Any = None,
        on_error: Any = None,
        _return_future: bool = False,
    ) -> object:
        """Queue a call. Its errors end the program: trials of benchmarks have none."""

        def work() -> None:
            method = getattr(self._live_actors_to_ray_actors_resources[tracked_actor][0].trial, method_name)
            answer = self.call(method, *args, **(kwargs or {}))
            if on_result is not None:
                on_result(tracked_actor, answer)

        if method_name != "stop":
            self._events.append((tracked_actor, work))
        return work

    def clear_actor_task_futures(self, tracked_actor: TrackedActor) -> None:
        self._events = deque(event for event in self._events if event[0] != tracked_actor)

    def is_actor_started(self, tracked_actor: TrackedActor) -> bool:
        return tracked_actor in self._live_actors_to_ray_actors_resources

    def is_actor_failed(self, tracked_actor: TrackedActor) -> bool:
        return False

    def get_live_actors_resources(self) -> dict[str, float]:
        return {}

    def cleanup(self) -> None:
        self._events.clear()

    @property
    def num_pending_actors(self) -> int:
        return len(self._pending)

    @property
    def num_live_actors(self) -> int:
        return len(self._live_actors_to_ray_actors_resources)

    @property
    def num_total_actors(self) -> int:
        return self.num_live_actors + self.num_pending_actors

    @property
    def num_actor_tasks(self) -> int:
        return len(self._events)


def run_trials_here() -> None:
    """Let Tune run trials in this process from now on. None of them changes its working folder."""
    os.environ[RAY_CHDIR_TO_TRIAL_DIR] = "0"
    tune_controller.RayActorManager = InProcessActors  # type: ignore[misc,assignment]
