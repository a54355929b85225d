"""percell: a small recurrent network per ARC task, trained at test time on that task's demonstrations alone.

Nothing is shared between tasks and there is no base: every ARC task of a split gets a fresh network of about 31,000
parameters (see `percell_net.py`). One round is `steps_per_round` AdamW steps for every task, so scores of one round
compare between trials. It answers grids of the input's size; tasks with other sizes get no network and no answer.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import save_file

from trainables.core import Example, Split, Task
from trainables.learners.arc_answers import metrics_of, no_answer, seed_of
from trainables.learners.percell_net import Solver, parameter_count
from trainables.tasks.arc import puzzle
from trainables.tasks.arc_grids import submission


@dataclass(frozen=True)
class PercellConfig:
    name: ClassVar[str] = "percell"
    needs_base: ClassVar[bool] = False
    packs: ClassVar[bool] = False
    only_task: ClassVar[str] = "arc"

    learning_rate: float = 4e-3  # AdamW step size
    weight_decay: float = 0.0  # decoupled, per step and unit of learning rate
    hidden_size: int = 48  # numbers a cell holds; a multiple of 16 fills the vector units
    recurrent_steps: int = 8  # steps of the shared update; how far a neighbour's neighbour reaches, in cells
    supervised_steps: int = 1  # of these, how many (the last) enter the loss
    per_device_train_batch_size: int = 8  # grids in an AdamW step: each demonstration in turn, augmented anew
    steps_per_round: int = 32  # AdamW steps per ARC task in a round; about a second on one thread
    ema_decay: float = 0.95  # of the averaged weights that answer; 0: the last weights
    max_grad_norm: float = 1.0  # clipping of the global norm
    dihedral: bool = True  # train on, and vote over, the eight turns and mirrors of every grid
    permute_colours: bool = False  # rename the colours that are not in every demonstration, anew in every step

    def __post_init__(self) -> None:
        counts = (
            "hidden_size",
            "recurrent_steps",
            "supervised_steps",
            "per_device_train_batch_size",
            "steps_per_round",
        )
        for field in counts:
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least 1")
        for field in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, field) < math.inf:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be a finite number >= 0")
        if self.supervised_steps > self.recurrent_steps:
            remedy = f"recurrent_steps is {self.recurrent_steps}; supervise at most that many"
            raise ValueError(f"supervised_steps is {self.supervised_steps}, but {remedy}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must lie in [0, 1)")
        if self.max_grad_norm <= 0:
            raise ValueError(f"max_grad_norm is {self.max_grad_norm}; it must be above 0 (float('inf') does not clip)")

    def rounds_per_pass(self, task: Task) -> int:
        """Every round visits every demonstration of every task many times: one."""
        return 1

    def build(self, base: None, task: Task, seed: int) -> PercellLearner:
        return PercellLearner(self, task, seed)


class PercellLearner:
    """All tasks of the search split, a `Solver` each. A task's numbers do not depend on which others are there."""

    def __init__(self, config: PercellConfig, task: Task, seed: int) -> None:
        self._config, self._task, self._seed = config, task, seed
        self._solvers = self._open(task.search())
        self._rounds = 0
        if not self._solvers:
            kind = "every task of the search split changes the grid's size"
            raise ValueError(f"{kind}, which percell cannot answer; set same_size=True or give other tasks")

    def round(self) -> dict[str, float]:
        """`loss`: nats per cell, mean over tasks and steps, NaN if one is; `trainable_parameters`: per task."""
        losses = [solver.train(self._config.steps_per_round) for solver in self._solvers.values()]
        self._rounds += 1
        return {"loss": float(np.mean(losses)), "trainable_parameters": parameter_count(self._config.hidden_size)}

    def completions(self, split: Split = "search") -> list[str]:
        """A submission per ARC task: the search split as trained so far; another split with fresh networks that get
        as many steps, on their own demonstrations."""
        examples = getattr(self._task, split)()
        solvers = self._solvers
        if split != "search":
            solvers = self._open(examples)
            for solver in solvers.values():
                solver.train(self._rounds * self._config.steps_per_round)
        return [answer(example, solvers.get(example.key)) for example in examples]

    def evaluate(self, split: Split = "search") -> dict[str, Any]:
        return metrics_of(self._task, split, self.completions(split))

    def state(self) -> bytes:
        buffer = io.BytesIO()
        solvers = {key: solver.state() for key, solver in self._solvers.items()}
        torch.save({"rounds": self._rounds, "solvers": solvers}, buffer)
        return buffer.getvalue()

    def load(self, state: bytes) -> None:
        held = torch.load(io.BytesIO(state), map_location="cpu", weights_only=False)
        if set(held["solvers"]) != set(self._solvers):
            raise ValueError("this checkpoint holds other ARC tasks; resume with the task it was written with")
        for key, solver in self._solvers.items():
            solver.load(held["solvers"][key])
        self._rounds = held["rounds"]

    def save(self, folder: str) -> None:
        """`percell.safetensors`: the averaged weights, named `<ARC task>.<parameter>`."""
        weights = {
            f"{key}.{name}": value.contiguous()
            for key, solver in self._solvers.items()
            for name, value in solver.average.items()
        }
        save_file(weights, Path(folder) / "percell.safetensors")

    def close(self) -> None:
        self._solvers = {}

    def _open(self, examples: Sequence[Example]) -> dict[str, Solver]:
        return {
            example.key: Solver(puzzle(example), self._config, seed_of(example.key, self._seed))
            for example in examples
            if example.kind == "same_size"
        }


def answer(example: Example, solver: Solver | None) -> str:
    """A submission; empty grids where there is no solver."""
    if solver is None:
        return no_answer(len(puzzle(example).test_inputs))
    return submission(solver.attempts())
