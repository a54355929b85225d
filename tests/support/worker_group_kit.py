"""A learner that goes wrong on demand in the processes that train it, and a trial of it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from tests.support.toys import Letters
from trainables.core import Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.supervised import SupervisedLearner
from trainables.packed.specs import WorkerGroupShape

SHAPE, SEED = WorkerGroupShape(2, cpus=1), 3


@dataclass(frozen=True)
class PlantedConfig(LoraConfig):
    """LoRA that goes wrong at its sixth and its tenth loss, each once in the life of the folder `marks`."""

    name: ClassVar[str] = "planted"
    planted: tuple[str, ...] = ()  # killed, memory, device, peer, error
    marks: str = ""

    def build(self, base, task, seed):
        return Planted(self, self.adapter(), self.optimizer(), base, task, seed)


class Planted(SupervisedLearner):
    def loss(self, logprobs, rows):
        first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        for planted, draws in zip(self.config.planted, (6, 10), strict=False):
            mark = Path(self.config.marks, planted)
            if first and self._draws == draws and not mark.exists():
                mark.touch()
                if planted == "error":
                    raise KeyError("planted")
                if planted == "memory":
                    raise torch.OutOfMemoryError("planted: out of memory")
                if planted == "peer":
                    raise RuntimeError("planted: gloo/transport/tcp/pair.cc: Connection reset by peer")
                if planted == "device":
                    raise torch.AcceleratorError("planted: CUDA error: an illegal memory access was encountered")
                os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(logprobs, rows)


def pair(*planted, marks=""):
    fields = {"steps_per_round": 4, "per_device_train_batch_size": 5}
    return Pair(PlantedConfig(**fields, planted=planted, marks=str(marks)), Letters(), "builtin:tiny")


def assert_same(group, expected):
    for loss, items in expected:
        assert group.round().loss == pytest.approx(loss, rel=1e-4)
        assert group.evaluate().items == items
