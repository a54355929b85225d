"""efe: an agent that goes from a grid to its outcome with least expected free energy, and remembers what worked.

Per ARC task, at test time: an encoder of demonstration pairs, a forward and a backward per-cell model over a horizon
(`efe_net.py`), trained on the demonstrations alone; cross-entropy first, the terms of expected free energy weighted
beside it (`efe_terms.py`). Tasks solved by their probes enter a memory, and unsolved ones start again from what solved
tasks like theirs (`efe_agent.py`). What a threshold admits never enters the score. After seed 002 of this house.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import save_file

from trainables.core import Evaluation, RoundResult, Split, Task
from trainables.learners.arc.answers import check_any, evaluation_of
from trainables.learners.arc.efe.agent import Agent
from trainables.learners.arc.efe.hyperparameters import EfeHyperparameters
from trainables.models.loading import Base


@dataclass(frozen=True)
class EfeConfig(EfeHyperparameters):
    name: ClassVar[str] = "efe"
    needs_base: ClassVar[bool] = True
    only_task: ClassVar[str] = "arc"
    per_example: ClassVar[bool] = True
    base_answers: ClassVar[bool] = False

    def rounds_per_pass(self, task: Task) -> int:
        """Every round visits every demonstration of every task many times: one."""
        return 1

    def build(self, base: Base, task: Task, seed: int) -> EfeLearner:
        return EfeLearner(self, base, task, seed)


class EfeLearner:
    """All tasks of the search split that have a canvas. What one task solves may be where another starts."""

    def __init__(self, config: EfeConfig, base: Base, task: Task, seed: int) -> None:
        self._config, self._base, self._task, self._seed = config, base, task, seed
        self._agent = Agent(config, base, task.search(), seed, config.memory())
        check_any(self._agent.batches, config.name)
        self._rounds = 0

    def round(self) -> RoundResult:
        """`loss` (nats: cross-entropy and weighted terms, mean over networks), `term.<name>` of each term that is on,
        `memory_entries` (held now), `memory_writes`, `memory_retrievals`, `memory_useful`: retrievals after which the
        probe solves what it did not solve in as many steps, with the same seed, without."""
        self._rounds += 1
        return self._agent.round()

    def completions(self, split: Split = "search") -> list[str]:
        return self._agent_for(split).answers()[0]

    def evaluate(self, split: Split = "search") -> Evaluation:
        """`score_without_memory`: of the same networks where no start was taken from the memory."""
        said, without = self._agent_for(split).answers()
        without_memory = evaluation_of(self._task, split, without).score
        return evaluation_of(self._task, split, said).with_metrics({"score_without_memory": without_memory})

    def state(self) -> bytes:
        buffer = io.BytesIO()
        torch.save({"rounds": self._rounds, "agent": self._agent.state()}, buffer)
        return buffer.getvalue()

    def load(self, state: bytes) -> None:
        held = torch.load(io.BytesIO(state), map_location="cpu", weights_only=False)
        self._agent.load(held["agent"])
        self._rounds = held["rounds"]

    def save(self, folder: str) -> None:
        """`efe.safetensors`: the averaged weights that answer, `<ARC task>.<parameter>`."""
        save_file(self._agent.weights(), Path(folder) / "efe.safetensors")

    def close(self) -> None:
        del self._agent  # with its copy of the base, if it has one

    def _agent_for(self, split: Split) -> Agent:
        """Another split than that of the search gets fresh networks, as many rounds, and the memory as it is now."""
        if split == "search":
            return self._agent
        memory = self._config.memory()
        if memory is not None and self._agent.memory is not None:
            memory.load(self._agent.memory.state())
        agent = Agent(self._config, self._base, self._task.split(split), self._seed, memory)
        for _ in range(self._rounds if agent.batches else 0):  # without a canvas there is no answer, and no training
            agent.round()
        return agent
