"""The tasks of a split with their networks, and the memory that they share.

Every task has a *cold* network, initialised from the random seed. At the start of a round, a task whose probe has not
succeeded queries the memory. If it holds similar solved tasks, a *warm* network, initialised from their weights, is
trained for as many steps on the same data. So the memory's effect is measured for each seed. Of the two networks, the
one whose probe does better on the held-out demonstration answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.core import Example, RoundResult
from trainables.learners.arc.answers import check_same, seed_of, submissions
from trainables.learners.arc.base_features import features, tokens_of
from trainables.learners.arc.canvas import canvas
from trainables.learners.arc.efe.base_reader import Reader
from trainables.learners.arc.efe.batch import EfeBatch, NetworkInput, Probe, Success, TaskGroup
from trainables.learners.arc.efe.hyperparameters import EfeHyperparameters
from trainables.learners.arc.efe.memory import Memory, blend
from trainables.learners.arc.efe.net import encoder_input
from trainables.learners.arc.efe.size_head import SizeHead
from trainables.learners.arc.grouping import batch_capacity, together
from trainables.models.loading import Base
from trainables.tasks.arc.grids import COLOURS, Grid
from trainables.tasks.arc.task import Puzzle, puzzle

Keys = tuple[str, ...]
SHORTER = " but its last demonstration"  # suffix of the name of a task without that demonstration


class Agent:
    """Trains and answers the tasks of a split that have a canvas; `batches` is empty if none has one."""

    def __init__(
        self, config: EfeHyperparameters, base: Base, examples: Sequence[Example], seed: int, memory: Memory | None
    ) -> None:
        self._config, self._examples, self._seed, self.memory = config, examples, seed, memory
        self._tasks, self._probes = _network_inputs(config, base, examples, memory is not None)
        self.reader: Reader | None = None
        if config.base_r:
            self.reader = Reader(base, config.base_r, config.learning_rate * config.base_multiplier, seed)
        self._networks = 1 if memory is None else 2  # per task: with a memory, the network and its probe
        self._steps = 0
        self.batches: dict[tuple[Keys, bool], EfeBatch] = {}  # by the keys of their tasks, and whether they are warm
        self._warm: set[str] = set()  # tasks that have a warm network
        # Tasks that were ever in the memory. They never read it, because their own solution could come back to them.
        self.written: set[str] = set()
        for keys in self._together(self._tasks):
            self.batches[keys, False] = self._open(keys, warm=False)

    def round(self) -> RoundResult:
        """Query the memory, train, and write to the memory; see `EfeLearner.round`."""
        self.recall()
        self._steps += self._config.steps_per_round
        losses, terms = [], defaultdict(list)
        for (keys, _), batch in self.batches.items():
            batch.successes = self._successes(keys)
            losses.append(batch.train(self._steps - batch.steps))
            for name, value in batch.terms.items():
                terms[f"term.{name}"].append(value)
        loss = float(np.mean(np.concatenate(losses)))
        parameters = sum(v.numel() for v in next(iter(self.batches.values())).value(0).values())
        metrics = {name: float(np.mean(values)) for name, values in terms.items()}
        return RoundResult(loss, parameters, metrics=metrics | self._remember())

    def answers(self) -> tuple[list[str], list[str]]:
        """Return a submission per task, and the submissions of the cold networks alone."""
        cold: dict[str, list[tuple[Grid, ...]]] = {}
        chosen: dict[str, list[tuple[Grid, ...]]] = {}
        for (keys, warm), batch in self.batches.items():
            own = dict(zip(keys, batch.attempts(), strict=True))
            chosen |= {key: grids for key, grids in own.items() if not warm or self._chosen(key)}
            cold |= {} if warm else own
        return submissions(self._examples, chosen), submissions(self._examples, cold)

    def weights(self) -> dict[str, Tensor]:
        """Return the averaged weights of the networks that answer, as `<task>.<parameter>`."""
        found: dict[str, Tensor] = {}
        for (keys, warm), batch in self.batches.items():
            for task, key in enumerate(keys):
                if not warm or self._chosen(key):
                    found |= {f"{key}.{name}": value.contiguous() for name, value in batch.value(task).items()}
        return found

    def state(self) -> dict[str, Any]:
        return {
            "steps": self._steps,
            "batches": {name: batch.state() for name, batch in self.batches.items()},
            "written": sorted(self.written),
            "memory": self.memory.state() if self.memory is not None else None,
            "reader": self.reader.state() if self.reader is not None else None,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError for the state of an agent with other tasks."""
        check_same((key for keys, _ in state["batches"] for key in keys), self._tasks)
        self.batches = {(keys, warm): self._open(keys, warm) for keys, warm in state["batches"]}
        self._warm = {key for keys, warm in self.batches if warm for key in keys}
        self.written = set(state["written"])
        for name, batch in self.batches.items():
            batch.load(state["batches"][name])
        if self.memory is not None:
            self.memory.load(state["memory"])
        if self.reader is not None:
            self.reader.load(state["reader"])
        self._steps = state["steps"]

    def recall(self) -> None:
        """Open warm networks for unsolved tasks that have a match in the memory."""
        if not self.memory:  # None or empty
            return
        starts = {}
        for key, probe in self._probes.items():  # without a probe, nothing would tell whether a warm start helps
            if key in self._warm | self.written or self._solved(self._success(key, warm=False)):
                continue
            if matches := self.memory.retrieve(key_of(probe.input), without=key):
                starts[key] = blend(matches)
        self._warm |= set(starts)
        for keys in self._together(starts):
            self.batches[keys, True] = self._open(keys, True, [starts[key] for key in keys])

    def _remember(self) -> dict[str, float]:
        """Write solved tasks to the memory; return its counts so far."""
        if self.memory is None:
            return {}
        useful = 0
        for (keys, warm), batch in self.batches.items():
            for task, key in enumerate(keys):
                success = batch.success(task)
                if success and self._solved(success):
                    own = key_of(self._tasks[key])
                    self.memory.write(key, own, batch.value(task), batch.preference(task), success.solved)
                    self.written.add(key)
                    useful += warm and not self._solved(self._success(key, warm=False))
        counts = {"writes": self.memory.writes, "retrievals": self.memory.retrievals}
        counts |= {"entries": len(self.memory), "useful": useful}
        return {f"memory_{name}": float(count) for name, count in counts.items()}

    def _solved(self, success: Success | None) -> bool:
        return success is not None and success.solved >= self._config.success_threshold

    def _success(self, key: str, warm: bool) -> Success | None:
        for (keys, kind), batch in self.batches.items():
            if kind == warm and key in keys and batch.steps:
                return batch.success(keys.index(key))
        return None

    def _chosen(self, key: str) -> bool:
        """Whether the warm network answers: its probe solves more views, or as many with a smaller loss."""
        cold, warm = (self._success(key, kind) for kind in (False, True))
        return cold is not None and warm is not None and (-warm.solved, warm.loss) < (-cold.solved, cold.loss)

    def _open(self, keys: Keys, warm: bool, starts: Sequence[Mapping[str, Tensor]] = ()) -> EfeBatch:
        tasks = [self._tasks[key] for key in keys]
        probes = [self._probes[key]._replace(task=keys.index(key)) for key in keys if key in self._probes]
        seeds = [seed_of(key, self._seed) for key in keys]
        fit = batch_capacity(tasks[0].canvas.side, self._networks)
        return EfeBatch(TaskGroup(tasks, probes, seeds), self._config, self._seed, starts, fit, self.reader, warm)

    def _together(self, keys: Iterable[str]) -> list[Keys]:
        """Return the keys of the tasks of each batch."""
        return list(together({key: self._tasks[key].canvas for key in keys}, self._networks))

    def _successes(self, keys: Keys) -> Tensor | None:
        """Return the mean preference of the other solved tasks for each task (tasks, 10); zeros where there are
        none."""
        if self.memory is None:
            return None
        means = [self.memory.mean_preference(without=key) for key in keys]
        return torch.stack([torch.zeros(COLOURS) if mean is None else mean for mean in means])


def key_of(given: NetworkInput) -> Tensor:
    """Return the memory's key of a task: colour pairs and features of its demonstrations, each of unit length."""
    read = encoder_input([given.canvas], given.features[None])
    return torch.cat([torch.nn.functional.normalize(part[0], dim=0) for part in read])


def _network_inputs(
    config: EfeHyperparameters, base: Base, examples: Sequence[Example], probing: bool
) -> tuple[dict[str, NetworkInput], dict[str, Probe]]:
    """Return the network input of each task that has a canvas, and the probes of those that have one."""
    whole = {example.key: puzzle(example) for example in examples}
    head = None
    if config.size_head:
        head = SizeHead()
        head.train(whole.values())
    shorter = {
        key + SHORTER: Puzzle(own.demonstrations[:-1], (own.demonstrations[-1][0],))
        for key, own in whole.items()
        if probing and len(own.demonstrations) > 1
    }
    # The size head is trained on the held-out demonstrations, so probes do not use it.
    canvases = {key: canvas(own, head) for key, own in whole.items()}
    canvases |= {name: canvas(own) for name, own in shorter.items()}
    wanted = {name: own for name, own in {**whole, **shorter}.items() if canvases[name]}
    read = features(base, wanted) if config.features else dict.fromkeys(wanted, np.zeros(0, dtype=np.float32))
    rows = {name: tokens_of(base, name, own) for name, own in wanted.items()} if config.base_r else {}
    inputs = {name: NetworkInput(own, read[name], rows.get(name, ())) for name, own in canvases.items() if own}
    tasks = {key: inputs[key] for key in whole if key in inputs}
    held_out = {key: whole[key].demonstrations[-1][1] for key in tasks if key + SHORTER in inputs}
    return tasks, {key: Probe(0, inputs[key + SHORTER], target) for key, target in held_out.items()}
