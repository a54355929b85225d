"""efe: a network per ARC task, trained at test time with terms of expected free energy, and a memory of solved tasks.

Per ARC task an encoder of the demonstrations, and a forward and a backward per-cell model over a horizon (`net.py`),
are trained on the demonstrations alone. The loss is cross-entropy plus weighted terms of expected free energy
(`loss_terms.py`; Friston et al. 2015, "Active inference and epistemic value"). The base is frozen, or has a LoRA
adapter (`base_reader.py`). Tasks whose probes succeed enter a memory; the memory gives unsolved, similar tasks a warm
start (`agent.py`). No threshold of the memory is part of the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from safetensors.torch import save_file

from trainables.core import Evaluation, RoundResult, Split, Task
from trainables.learners.arc.answers import check_any, evaluation_of
from trainables.learners.arc.efe.agent import Agent
from trainables.learners.arc.efe.hyperparameters import EfeHyperparameters
from trainables.models.loading import Base
from trainables.states import pack, unpack


@dataclass(frozen=True)
class EfeConfig(EfeHyperparameters):
    name: ClassVar[str] = "efe"
    base_answers: ClassVar[bool] = False

    def build(self, base: Base, task: Task, seed: int) -> EfeLearner:
        return EfeLearner(self, base, task, seed)


class EfeLearner:
    """Trains the networks of all tasks of the search split that have a canvas. They share a memory of solved tasks."""

    def __init__(self, config: EfeConfig, base: Base, task: Task, seed: int) -> None:
        self._config, self._base, self._task, self._seed = config, base, task, seed
        self.agent = Agent(config, base, task.search(), seed, config.memory())
        check_any(self.agent.batches, config.name)
        self._rounds = 0

    def round(self) -> RoundResult:
        """Train every network for `steps_per_round` steps.

        `loss` is in nats, cross-entropy and weighted terms, the mean over networks; `term.<name>` is each term that is
        on, before weighting. `memory_entries`, `memory_writes` and `memory_retrievals` count so far; `memory_useful`
        counts the retrievals after which the probe succeeds and the cold network's probe, with the same seed, does not.
        """
        self._rounds += 1
        return self.agent.round()

    def completions(self, split: Split = "search") -> list[str]:
        return self._agent_for(split).answers()[0]

    def evaluate(self, split: Split = "search") -> Evaluation:
        """Answer a split. `score_without_memory` is the score of the cold networks alone."""
        answers, without = self._agent_for(split).answers()
        without_memory = evaluation_of(self._task, split, without).score
        return evaluation_of(self._task, split, answers).with_metrics({"score_without_memory": without_memory})

    def state(self) -> bytes:
        return pack({"rounds": self._rounds, "agent": self.agent.state()})

    def load(self, state: bytes) -> None:
        held = unpack(state)
        self.agent.load(held["agent"])
        self._rounds = held["rounds"]

    def save(self, folder: str) -> None:
        """Write `efe.safetensors`: the averaged weights that answer, `<ARC task>.<parameter>`."""
        save_file(self.agent.weights(), Path(folder) / "efe.safetensors")

    def close(self) -> None:
        del self.agent  # with its copy of the base, if it has one

    def _agent_for(self, split: Split) -> Agent:
        """Return the agent; for another split than search a new one, trained for as many rounds, with a copy of the
        memory."""
        if split == "search":
            return self.agent
        memory = self._config.memory()
        if memory is not None and self.agent.memory is not None:
            memory.load(self.agent.memory.state())
        agent = Agent(self._config, self._base, self._task.split(split), self._seed, memory)
        for _ in range(self._rounds if agent.batches else 0):  # no task has a canvas: nothing to train
            agent.round()
        return agent
