"""joint: percell's networks, which start from one that was trained on many ARC tasks together.

Before the first round a trunk (`trunk.py`) is trained on the demonstrations of the train split, which takes part of
that round. Each task's network then starts from its weights and from the task's vector, or the mean vector for a task
that took no part, and is trained on that task alone. With `transductive` the trunk also sees the demonstrations of the
tasks that are asked, which ARC's rules allow; it never sees their test outputs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainables.core import RoundResult, Split, Task
from trainables.learners.arc.canvas import Canvas
from trainables.learners.arc.joint.hyperparameters import JointHyperparameters
from trainables.learners.arc.joint.trunk import Trunk, train_trunk
from trainables.learners.arc.percell.batch import NetworkBatch, NetworkSpec, Votes
from trainables.learners.arc.percell.learner import PercellLearner
from trainables.learners.arc.percell.net import PercellNets, look


@dataclass(frozen=True)
class JointConfig(JointHyperparameters):
    name: ClassVar[str] = "joint"
    independent: ClassVar[bool] = False  # the trunk is common to all

    def build(self, base: None, task: Task, seed: int) -> JointLearner:
        return JointLearner(self, task, seed)


class StartedNets(PercellNets):
    """Networks that start from a trunk; `context` (T, hidden_size) is each task's vector, and is trained further."""

    def __init__(self, hidden_size: int, seeds: Sequence[int], trunk: Trunk, keys: Sequence[str]) -> None:
        super().__init__(hidden_size, seeds)
        with torch.no_grad():
            for name, value in trunk.weights.items():
                getattr(self, name).copy_(value)
        self.context = nn.Parameter(torch.stack([trunk.vector(key) for key in keys]))

    def forward(self, cells: Tensor, steps: int, supervised: int = 1) -> list[Tensor]:
        return self.run(*look(cells), steps, supervised, self.context)


class StartedBatch(NetworkBatch):
    """A batch of networks that start from a trunk; `keys` are those of its tasks."""

    def __init__(self, trunk: Trunk, keys: Sequence[str], *of_batch: Any) -> None:
        self._trunk, self._keys = trunk, keys
        super().__init__(*of_batch)

    def _build(self) -> nn.Module:
        keys = [self._keys[spec.task] for spec in self.specs]
        return StartedNets(self._config.hidden_size, [spec.seed for spec in self.specs], self._trunk, keys)


class JointLearner(PercellLearner):
    """Trains a trunk, and from it a network for each task of the search split. `metrics`: the trunk's last loss, and
    its seconds."""

    _config: JointHyperparameters
    _trunk: Trunk | None = None

    def batch_of(
        self, keys: Sequence[str], canvases: Sequence[Canvas], specs: Sequence[NetworkSpec], capacity: int
    ) -> NetworkBatch:
        if self._trunk is None:
            return super().batch_of(keys, canvases, specs, capacity)
        return StartedBatch(self._trunk, keys, canvases, self._config, specs, capacity)

    def round(self) -> RoundResult:
        """Train the trunk, in the first round, and every network; see `PercellLearner.round`."""
        more = {}
        if self._rounds == 0 and self._config.trunk_steps:
            start = time.perf_counter()
            more["trunk_loss"] = self._start(self._canvases)
            more["trunk_seconds"] = time.perf_counter() - start
            self.batches = self.open_batches(self._canvases)
        result = super().round().with_metrics(more)
        context = self._config.hidden_size if self._trunk else 0
        return replace(result, trainable_parameters=result.trainable_parameters + context)

    def _start(self, asked: Mapping[str, Canvas]) -> float:
        canvases = self.canvases_of(self._task.train())
        canvases |= asked if self._config.transductive else {}
        self._trunk, loss = train_trunk(canvases, self._config, self._seed)
        return loss

    def votes(self, split: Split = "search") -> dict[str, list[Votes]]:
        """See `PercellLearner.votes`. A transductive trunk is trained for each split, on the tasks that are asked."""
        own = self._trunk
        if split != "search" and own is not None and self._config.transductive:
            self._start(self.canvases_of(self._task.split(split)))
        try:
            return super().votes(split)
        finally:
            self._trunk = own

    def held(self) -> dict[str, Any]:
        return super().held() | {"trunk": self._trunk.state() if self._trunk else None}

    def restore(self, held: Mapping[str, Any]) -> None:
        self._trunk = Trunk(**held["trunk"]) if held["trunk"] else None
        super().restore(held)
