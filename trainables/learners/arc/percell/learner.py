"""percell: a small recurrent network per ARC task, trained at test time on that task's demonstrations alone.

There is no base, and tasks share nothing: every ARC task of a split gets a new network of about 33,000 parameters, all
of them trained (`net.py`), or several networks from different seeds that answer together. A round is `steps_per_round`
AdamW steps for every task, so scores of one round compare between trials. `arc/canvas.py` makes the network's input and
decides the size of its answer; a task that nothing fits gets no network and no answer. With `program_planes` the
networks also read what programs make of the input. A related network: Growing neural cellular automata (Mordvintsev et
al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.torch import save_file

from trainables.core import Evaluation, Example, RoundResult, Split, Task
from trainables.learners.arc.answers import check_any, check_same, evaluation_of, seed_of, submissions
from trainables.learners.arc.calibration import calibration, level_of
from trainables.learners.arc.canvas import Canvas, canvas
from trainables.learners.arc.grouping import batch_capacity, together
from trainables.learners.arc.percell.batch import NetworkBatch, NetworkSpec, Votes
from trainables.learners.arc.percell.hyperparameters import PercellHyperparameters
from trainables.learners.arc.percell.net import parameter_count
from trainables.learners.arc.program_answers import search_all, solved
from trainables.states import pack, unpack
from trainables.tasks.arc.task import Puzzle, puzzle


@dataclass(frozen=True)
class PercellConfig(PercellHyperparameters):
    name: ClassVar[str] = "percell"
    needs_base: ClassVar[bool] = False
    independent: ClassVar[bool] = True
    program_planes: bool = False  # read the outputs of the closest programs, prior knowledge, beside the lenses

    def untrained(self) -> str:
        return "programs and lenses alone" if self.program_planes else "lenses alone"

    def build(self, base: None, task: Task, seed: int) -> PercellLearner:
        return PercellLearner(self, task, seed)


class PercellLearner:
    """Trains a network for each task of the search split. A task's numbers do not depend on the other tasks."""

    def __init__(self, config: PercellConfig, task: Task, seed: int) -> None:
        self._config, self._task, self._seed = config, task, seed
        self._canvases = self.canvases_of(task.search())
        self.check()
        self.batches = self.open_batches(self._canvases)
        self._rounds = 0

    def check(self) -> None:
        """Raise ValueError if there is nothing to train."""
        check_any(self._canvases, self._config.name)

    def canvases_of(self, examples: Sequence[Example]) -> dict[str, Canvas]:
        """Return the canvases by key; tasks without a canvas are left out."""
        puzzles = {example.key: puzzle(example) for example in examples}
        if self._config.program_planes:
            search_all([*puzzles.values()])
        found = {key: self._canvas(own) for key, own in puzzles.items()}
        return {key: own for key, own in found.items() if own}

    def _canvas(self, own: Puzzle) -> Canvas | None:
        return canvas(own, programs=solved(own).planes if self._config.program_planes else ())

    def open_batches(self, canvases: Mapping[str, Canvas]) -> dict[tuple[str, ...], NetworkBatch]:
        """Return batches of new networks, by the keys of their tasks."""
        return {keys: self.open_batch(keys, canvases) for keys in together(canvases, self._config.seeds)}

    def open_batch(self, keys: Sequence[str], canvases: Mapping[str, Canvas]) -> NetworkBatch:
        seeds = [self._seed + 1000 * number for number in range(self._config.seeds)]
        specs = [NetworkSpec(task, seed_of(key, own)) for task, key in enumerate(keys) for own in seeds]
        chosen = [canvases[key] for key in keys]
        return self.batch_of(keys, chosen, specs, batch_capacity(chosen[0].side, self._config.seeds))

    def batch_of(
        self, keys: Sequence[str], canvases: Sequence[Canvas], specs: Sequence[NetworkSpec], capacity: int
    ) -> NetworkBatch:
        """Return new networks for these tasks; a subclass may start them from others."""
        return NetworkBatch(canvases, self._config, specs, capacity)

    def round(self) -> RoundResult:
        """Train every network. `loss` is in nats per cell, the mean over tasks and steps, NaN if one is NaN;
        `trainable_parameters` is per network."""
        losses = [batch.train(self._config.steps_per_round) for batch in self.batches.values()]
        self._rounds += 1
        loss = float(np.mean(np.concatenate(losses))) if losses else 0.0
        return RoundResult(loss, parameter_count(self._config.hidden_size))

    def votes(self, split: Split = "search") -> dict[str, list[Votes]]:
        """Return the votes on each test input of the tasks that are answered, by key.

        They are those of the search split as trained so far; for another split of new networks that are trained for as
        many steps on their own demonstrations.
        """
        batches = self.batches
        if split != "search":
            batches = self.open_batches(self.canvases_of(self._task.split(split)))
            for batch in batches.values():
                batch.train(self._rounds * self._config.steps_per_round)
        return {key: own for keys, batch in batches.items() for key, own in zip(keys, batch.votes(), strict=True)}

    def completions(self, split: Split = "search") -> list[str]:
        """Return a submission per ARC task."""
        return self._submitted(split, self.votes(split))

    def _submitted(self, split: Split, votes: Mapping[str, Sequence[Votes]]) -> list[str]:
        attempts = {key: [(one.first, one.second) for one in own] for key, own in votes.items()}
        return submissions(self._task.split(split), attempts)

    def evaluate(self, split: Split = "search") -> Evaluation:
        """Further metrics say how often the first attempt is right, by how many votes agree: see `calibration.py`."""
        votes = self.votes(split)
        said = self._submitted(split, votes)
        levels = {key: own[0].source or level_of(min(one.agreement for one in own)) for key, own in votes.items()}
        measured = calibration(self._task, self._task.split(split), said, levels)
        return evaluation_of(self._task, split, said).with_metrics(measured)

    def state(self) -> bytes:
        return pack(self.held())

    def load(self, state: bytes) -> None:
        self.restore(unpack(state))

    def held(self) -> dict[str, Any]:
        """Return what a checkpoint holds; a subclass may add to it."""
        return {"rounds": self._rounds, "batches": {k: b.state() for k, b in self.batches.items()}}

    def restore(self, held: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint holds."""
        check_same((key for keys in held["batches"] for key in keys), self._canvases)
        # Keep the batches of the checkpoint: a GPU trains more tasks together than a CPU.
        self.batches = {keys: self.open_batch(keys, self._canvases) for keys in held["batches"]}
        for keys, batch in self.batches.items():
            batch.load(held["batches"][keys])
        self._rounds = held["rounds"]

    def save(self, folder: str) -> None:
        """Write `percell.safetensors`: the averaged weights, `<ARC task>.<parameter>`; the first axis is the seeds."""
        weights = {}
        for keys, batch in self.batches.items():
            for name, value in batch.average.items():
                for key, own in zip(keys, value[: batch.used].split(self._config.seeds), strict=True):
                    weights[f"{key}.{name}"] = own.contiguous()
        save_file(weights, Path(folder) / "percell.safetensors")

    def close(self) -> None:
        self.batches = {}
