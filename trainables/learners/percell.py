"""percell: a small recurrent network per ARC task, trained at test time on that task's demonstrations alone.

Nothing is shared between tasks and there is no base: every ARC task of a split gets a fresh network of about 33,000
parameters (see `percell_net.py`), or several from different seeds that answer together. One round is `steps_per_round`
AdamW steps for every task, so scores of one round compare between trials. What the network sees, and how large it
answers, comes from `arc_canvas.py`; a task that no lens fits gets no network and no answer.
"""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import save_file

from trainables.core import Example, Split, Task
from trainables.learners.arc_answers import check_any, check_same, metrics_of, seed_of, submissions
from trainables.learners.arc_canvas import Canvas, canvas
from trainables.learners.percell_batch import Batch, Slot
from trainables.learners.percell_net import parameter_count
from trainables.tasks.arc import puzzle
from trainables.tasks.arc_grids import Grid

# Cells of the grids of all networks of a batch. Small grids are trained together, as single operations on them cost
# more than their arithmetic; above these sizes a CPU's cache is full, and nothing is gained. The GPU's is a guess.
CELLS_AT_ONCE = {"cpu": 400, "cuda": 64_000}


@dataclass(frozen=True)
class PercellConfig:
    name: ClassVar[str] = "percell"
    needs_base: ClassVar[bool] = False
    packs: ClassVar[bool] = False
    only_task: ClassVar[str] = "arc"
    per_example: ClassVar[bool] = True

    learning_rate: float = 4e-3  # AdamW step size
    weight_decay: float = 0.0  # decoupled, per step and unit of learning rate
    hidden_size: int = 48  # numbers a cell holds; a multiple of 16 fills the vector units
    recurrent_steps: int = 8  # steps of the shared update; how far a neighbour's neighbour reaches, in cells
    supervised_steps: int = 1  # of these, how many (the last) enter the loss
    per_device_train_batch_size: int = 8  # grids in an AdamW step: all demonstrations equally often, augmented anew
    steps_per_round: int = 32  # AdamW steps per ARC task in a round; about a second on one thread
    seeds: int = 1  # networks of each task, from different seeds, that vote together
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
            "seeds",
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
    """All tasks of the search split. A task's numbers do not depend on which others are there."""

    def __init__(self, config: PercellConfig, task: Task, seed: int) -> None:
        self._config, self._task, self._seed = config, task, seed
        self._canvases = canvases_of(task.search())
        check_any(self._canvases, config.name)
        self._batches = open_batches(self._canvases, config, seed)
        self._rounds = 0

    def round(self) -> dict[str, float]:
        """`loss`: nats per cell, mean over tasks and steps, NaN if one is; `trainable_parameters`: per network."""
        losses = [batch.train(self._config.steps_per_round) for batch in self._batches.values()]
        self._rounds += 1
        loss = float(np.mean(np.concatenate(losses)))
        return {"loss": loss, "trainable_parameters": parameter_count(self._config.hidden_size)}

    def completions(self, split: Split = "search") -> list[str]:
        """A submission per ARC task: the search split as trained so far; another split with fresh networks that get
        as many steps, on their own demonstrations."""
        examples = getattr(self._task, split)()
        batches = self._batches
        if split != "search":
            batches = open_batches(canvases_of(examples), self._config, self._seed)
            for batch in batches.values():
                batch.train(self._rounds * self._config.steps_per_round)
        return answers(examples, batches)

    def evaluate(self, split: Split = "search") -> dict[str, Any]:
        return metrics_of(self._task, split, self.completions(split))

    def state(self) -> bytes:
        buffer = io.BytesIO()
        torch.save({"rounds": self._rounds, "batches": {k: b.state() for k, b in self._batches.items()}}, buffer)
        return buffer.getvalue()

    def load(self, state: bytes) -> None:
        held = torch.load(io.BytesIO(state), map_location="cpu", weights_only=False)
        check_same((key for keys in held["batches"] for key in keys), self._canvases)
        # In the groups that it was trained in: a GPU takes more tasks together than a CPU.
        self._batches = {keys: open_batch(keys, self._canvases, self._config, self._seed) for keys in held["batches"]}
        for keys, batch in self._batches.items():
            batch.load(held["batches"][keys])
        self._rounds = held["rounds"]

    def save(self, folder: str) -> None:
        """`percell.safetensors`: the averaged weights, `<ARC task>.<parameter>`, first axis: the task's seeds."""
        weights = {}
        for keys, batch in self._batches.items():
            for name, value in batch.average.items():
                for key, own in zip(keys, value[: batch.used].split(self._config.seeds), strict=True):
                    weights[f"{key}.{name}"] = own.contiguous()
        save_file(weights, Path(folder) / "percell.safetensors")

    def close(self) -> None:
        self._batches = {}


def canvases_of(examples: Sequence[Example]) -> dict[str, Canvas]:
    """Of the tasks that have one, by key."""
    seen = {example.key: canvas(puzzle(example)) for example in examples}
    return {key: own for key, own in seen.items() if own}


def open_batches(canvases: Mapping[str, Canvas], config: PercellConfig, seed: int) -> dict[tuple[str, ...], Batch]:
    """Batches of fresh networks, by the keys of the tasks in them."""
    return {keys: open_batch(keys, canvases, config, seed) for keys in together(canvases, config.seeds)}


def open_batch(keys: Sequence[str], canvases: Mapping[str, Canvas], config: PercellConfig, seed: int) -> Batch:
    seeds = [seed + 1000 * number for number in range(config.seeds)]
    slots = [Slot(task, seed_of(key, own)) for task, key in enumerate(keys) for own in seeds]
    chosen = [canvases[key] for key in keys]
    return Batch(chosen, config, slots, room(chosen[0].side, config.seeds))


def room(side: int, networks: int) -> int:
    """Tasks of this side that fit into one batch, with so many networks each."""
    limit = CELLS_AT_ONCE["cuda" if torch.cuda.is_available() else "cpu"]
    return max(1, limit // (side * side * networks))


def together(canvases: Mapping[str, Canvas], networks: int) -> Iterator[tuple[str, ...]]:
    """Keys of tasks of one side that share a batch, with so many networks each."""
    sides: dict[int, list[str]] = defaultdict(list)
    for key, own in canvases.items():
        sides[own.side].append(key)
    for side, keys in sorted(sides.items()):
        size = room(side, networks)
        yield from (tuple(keys[start : start + size]) for start in range(0, len(keys), size))


def answers(examples: Sequence[Example], batches: Mapping[tuple[str, ...], Batch]) -> list[str]:
    """A submission per task."""
    said: dict[str, list[tuple[Grid, Grid]]] = {}
    for keys, batch in batches.items():
        said |= dict(zip(keys, batch.attempts(), strict=True))
    return submissions(examples, said)
