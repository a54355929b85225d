"""efe: an agent that goes from a grid to its outcome with least expected free energy, and remembers what worked.

Per ARC task, at test time: an encoder of demonstration pairs, a forward and a backward per-cell model over a horizon
(`efe_net.py`), trained on the demonstrations alone; cross-entropy first, the terms of expected free energy weighted
beside it (`efe_terms.py`). Tasks solved by their probes enter a memory, and unsolved ones start again from what solved
tasks like theirs (`efe_agent.py`). What a threshold admits never enters the score. After seed 002 of this house.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import save_file

from trainables.bases import Base
from trainables.core import Split, Task
from trainables.learners.arc_answers import check_any, metrics_of
from trainables.learners.efe_agent import Agent
from trainables.learners.efe_batch import TERMS
from trainables.learners.efe_memory import Memory


@dataclass(frozen=True)
class EfeConfig:
    name: ClassVar[str] = "efe"
    needs_base: ClassVar[bool] = True
    packs: ClassVar[bool] = False
    only_task: ClassVar[str] = "arc"
    per_example: ClassVar[bool] = True
    base_answers: ClassVar[bool] = False

    learning_rate: float = 4e-3  # AdamW step size of the forward model
    backward_multiplier: float = 1.0  # of the learning rate, for the backward model
    encoder_multiplier: float = 1.0  # for the encoder of demonstrations
    preference_multiplier: float = 1.0  # for the preference
    weight_decay: float = 0.0  # decoupled, per step and unit of learning rate
    hidden_size: int = 48  # numbers a cell holds
    horizon: int = 8  # recurrent steps from input to outcome
    per_device_train_batch_size: int = 8  # grids in an AdamW step: all demonstrations equally often, augmented anew
    steps_per_round: int = 32  # AdamW steps per ARC task in a round
    ema_decay: float = 0.95  # of the averaged weights that answer; 0: the last weights
    max_grad_norm: float = 1.0  # clipping of the norm, of each part of each network by itself
    dihedral: bool = True  # train on, and vote over, the eight turns and mirrors of every grid
    permute_colours: bool = False  # rename the colours that are not in every demonstration, anew in every step

    # Weights of the terms, per nat of cross-entropy. None helped in the ablation in docs/results/arc.md: all are off.
    risk: float = 0.0  # the outcome's colours against the learned preference
    ambiguity: float = 0.0  # entropy of the outcome
    step: float = 0.0  # share of the horizon before the outcome is reached
    bidirectional: float = 0.0  # forward and backward model disagree on the way; trains the backward model
    anchor: float = 0.0  # the preference against what solved problems preferred
    alignment: float = 0.0  # the context against the base's features
    reversibility: float = 0.0  # the backward model cannot return from the outcome

    features: bool = False  # whether the encoder reads the frozen base's features of the demonstrations (no gain)
    base_r: int = 0  # LoRA rank on that base, trained through what the encoder reads; 0: the base stays frozen
    base_multiplier: float = 0.1  # of the learning rate, for that adapter
    size_head: bool = False  # whether a trained head says an output's size where lenses disagree, or the best lens
    memory_capacity: int = 0  # solved problems held; 0: no memory and no probes, a third of the cost (no sure gain)
    memory_k: int = 1  # solved problems that a start is blended from
    memory_similarity: float = 0.5  # cosine above which a solved problem is a match
    eviction: Literal["oldest", "least_used"] = "oldest"
    success_threshold: float = 1.0  # share of a held-out demonstration's views that must be solved to be remembered

    def __post_init__(self) -> None:
        least = {"hidden_size": 1, "horizon": 1, "per_device_train_batch_size": 1, "steps_per_round": 1, "memory_k": 1}
        for field, bound in (least | {"memory_capacity": 0, "base_r": 0}).items():
            if getattr(self, field) < bound:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least {bound}")
        rates = ("learning_rate", "weight_decay", *(f"{part}_multiplier" for part in GROUPS), *TERMS)
        for field in rates:
            if not 0 <= getattr(self, field) < math.inf:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be a finite number >= 0")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must lie in [0, 1)")
        if self.max_grad_norm <= 0:
            raise ValueError(f"max_grad_norm is {self.max_grad_norm}; it must be above 0 (float('inf') does not clip)")
        if not 0 < self.success_threshold <= 1:
            raise ValueError(f"success_threshold is {self.success_threshold}; a share above 0, at most 1, is needed")
        self.memory()
        if self.alignment and not self.features:
            raise ValueError(f"alignment is {self.alignment}, and features are off; turn features on, or set it to 0")
        if self.base_r and not self.features:
            raise ValueError(f"base_r is {self.base_r}, and features are off; turn features on, or set it to 0")

    def memory(self) -> Memory | None:
        if not self.memory_capacity:
            return None
        similar, admitted = self.memory_similarity, self.success_threshold
        return Memory(self.memory_capacity, self.memory_k, similar, self.eviction, admitted)

    def rounds_per_pass(self, task: Task) -> int:
        """Every round visits every demonstration of every task many times: one."""
        return 1

    def build(self, base: Base, task: Task, seed: int) -> EfeLearner:
        return EfeLearner(self, base, task, seed)


GROUPS = ("backward", "encoder", "preference", "base")


class EfeLearner:
    """All tasks of the search split that have a canvas. What one task solves may be where another starts."""

    def __init__(self, config: EfeConfig, base: Base, task: Task, seed: int) -> None:
        self._config, self._base, self._task, self._seed = config, base, task, seed
        self._agent = Agent(config, base, task.search(), seed, config.memory())
        check_any(self._agent.batches, config.name)
        self._rounds = 0

    def round(self) -> dict[str, float]:
        """`loss` (nats: cross-entropy and weighted terms, mean over networks), `term.<name>` of each term that is on,
        `memory_entries` (held now), `memory_writes`, `memory_retrievals`, `memory_useful`: retrievals after which the
        probe solves what it did not solve in as many steps, with the same seed, without."""
        self._rounds += 1
        return self._agent.round()

    def completions(self, split: Split = "search") -> list[str]:
        return self._agent_for(split).answers()[0]

    def evaluate(self, split: Split = "search") -> dict[str, Any]:
        """`score_without_memory`: of the same networks where no start was taken from the memory."""
        said, without = self._agent_for(split).answers()
        metrics = metrics_of(self._task, split, said)
        return {**metrics, "score_without_memory": metrics_of(self._task, split, without)["score"]}

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
        agent = Agent(self._config, self._base, getattr(self._task, split)(), self._seed, memory)
        for _ in range(self._rounds if agent.batches else 0):  # without a canvas there is no answer, and no training
            agent.round()
        return agent
