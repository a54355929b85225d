"""Trains the transformer of `joint` on demonstrations of many ARC tasks, and answers by votes over views.

Step k draws its rows, views, colours and dropout from (seed, k) alone, so a run that goes on from a checkpoint draws
what it would have drawn. Nothing here reads a test output (`rows.py`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.learners.arc.canvas import OUTSIDE
from trainables.learners.arc.joint.rows import FiledTask, Pair, Row, row_of
from trainables.learners.arc.joint.transformer import Transformer, TransformerShape
from trainables.learners.arc.percell.batch import Votes, elected
from trainables.tasks.arc.grids import COLOURS
from trainables.tasks.arc.views import TURNS, turn_back

LIKE = 1.2  # rows of a step differ in their number of cells by at most this factor
UNKNOWN = -1  # the number of a task that took no part
VOTING = 1  # beside the seed, in what votes draw from


@dataclass(frozen=True)
class TransformerTraining:
    shape: TransformerShape = field(default_factory=TransformerShape)
    learning_rate: float = 6e-4  # AdamW's highest step size
    weight_decay: float = 0.1  # of matrices between cells' states; vectors have none
    warm_up: float = 0.02  # share of the training in which the rate rises; then it falls as a cosine, to 0
    max_grad_norm: float = 1.0
    cells: int = 32_768  # of all rows of a step together, padding included
    seed: int = 0

    def rate(self, progress: float) -> float:
        """Return the step size when this share of the training is done."""
        return self.learning_rate * min(1.0, progress / self.warm_up) * (1 + math.cos(math.pi * progress)) / 2


class Rows(NamedTuple):
    """N rows: cells (N, L, P), places (N, L, 3), targets (N, L), tasks and turns (N,), and which cells are no
    padding (N, L), None for all."""

    cells: Tensor
    places: Tensor
    targets: Tensor
    tasks: Tensor
    turns: Tensor
    present: Tensor | None


class JointTransformer:
    """A transformer and its optimizer. `learned`: the tasks whose demonstrations it is trained on, those of the train
    split; with `transductive` all."""

    def __init__(self, tasks: Sequence[FiledTask], config: TransformerTraining, transductive: bool) -> None:
        self.config, self.steps = config, 0
        self.learned = [one for one in tasks if one.demonstrations and (transductive or one.split == "train")]
        if not self.learned:
            raise ValueError("no task of the train split has a canvas, so there is nothing to learn; give other tasks")
        self._number = {one.key: number for number, one in enumerate(self.learned)}
        self._data = _Data(self.learned, config.cells)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        has_bfloat16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.dtype = torch.bfloat16 if has_bfloat16 else torch.float32  # of products; weights are float32
        torch.manual_seed(config.seed)
        self.net = Transformer(config.shape, len(self.learned)).to(self.device)
        named = [*self.net.named_parameters()]
        matrices = [weight for name, weight in named if name.startswith("blocks.") and weight.dim() == 2]
        others = [weight for name, weight in named if not (name.startswith("blocks.") and weight.dim() == 2)]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, betas=(0.9, 0.98), fused=True)

    def step(self, progress: float) -> Tensor:
        """Take an AdamW step at this share of the training. Return the loss in nats per output cell, on the device."""
        rng = np.random.default_rng((self.config.seed, self.steps))
        torch.manual_seed(int(rng.integers(2**62)))  # of dropout
        rows = self._data.draw(rng, self.device)
        self.net.train()
        logits = self._logits(rows)
        loss = F.cross_entropy(logits.flatten(0, 1), rows.targets.flatten().long(), ignore_index=OUTSIDE)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.config.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(progress)
        self.optimizer.step()
        self.steps += 1
        return loss.detach()

    def _logits(self, rows: Rows) -> Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.net(rows.cells, rows.places, rows.tasks, rows.turns, rows.present)

    @torch.no_grad()
    def votes(self, asked: Sequence[FiledTask], count: int, may_go_on: Callable[[], bool]) -> dict[str, list[Votes]]:
        """Return the votes on each test input, by key, of `count` views or of those that were done when `may_go_on`
        said no; none if there was no time for one. Tasks without a canvas are left out.

        The first answer is that of the mean log-probability, the second the commonest other answer of single views.
        """
        self.net.eval()
        tests = [(task, number) for task in asked for number in range(len(task.tests))]
        tests.sort(key=lambda one: one[0].tests[one[1]].cells)
        totals: list[Any] = [0.0] * len(tests)
        ballots: list[list[np.ndarray]] = [[] for _ in tests]
        for vote in range(count):
            told: list[np.ndarray] = []
            for part in self._told(tests, vote):
                told += part
                if not may_go_on():
                    break
            if len(told) < len(tests):
                break
            for place, own in enumerate(told):
                totals[place] = totals[place] + own
                ballots[place].append(own.argmax(0).astype(np.int8))
        done = {
            (task.key, number): _elected(task, number, total, own)
            for (task, number), total, own in zip(tests, totals, ballots, strict=True)
            if own
        }
        return {
            task.key: [done[task.key, number] for number in range(len(task.tests))]
            for task in asked
            if (task.key, 0) in done
        }

    def _told(self, tests: Sequence[tuple[FiledTask, int]], vote: int) -> Iterator[list[np.ndarray]]:
        """Yield log-probabilities (10, h, w) of test inputs under a view, turned and coloured back, batch by batch."""
        rng, view = np.random.default_rng((self.config.seed, VOTING, vote)), vote % TURNS
        start = 0
        while start < len(tests):
            # sorted by cells: a batch ends before its padded size exceeds that of a step
            end = start + 1
            while end < len(tests) and self._size(tests[end]) * (end + 1 - start) <= self.config.cells:
                end += 1
            part = tests[start:end]
            tables = [_table(task.free_colours, rng if vote >= TURNS else None) for task, _ in part]
            rows = [
                _recoloured(row_of(task.tests[number], view), table)
                for (task, number), table in zip(part, tables, strict=True)
            ]
            numbers = [self._number.get(task.key, UNKNOWN) for task, _ in part]
            logits = self._logits(_together(rows, numbers, [view] * len(rows), self.device))
            found = logits.log_softmax(2).cpu().numpy()
            yield [
                _upright(own, task.tests[number], view, table)
                for own, (task, number), table in zip(found, part, tables, strict=True)
            ]
            start = end

    def _size(self, test: tuple[FiledTask, int]) -> int:
        return test[0].tests[test[1]].cells

    def state(self) -> dict[str, Any]:
        """Return the tensors themselves; further training changes them in place."""
        return {"steps": self.steps, "net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


class _Data:
    """All demonstrations, grouped by their number of cells. Every demonstration is drawn equally often."""

    def __init__(self, tasks: Sequence[FiledTask], cells: int) -> None:
        self._pairs = [(place, pair) for place, task in enumerate(tasks) for pair in task.demonstrations]
        self._free, self._cells = [task.free_colours for task in tasks], cells
        groups: dict[int, list[int]] = defaultdict(list)
        for number, (_, pair) in enumerate(self._pairs):
            groups[int(math.log(pair.cells, LIKE))].append(number)
        self._groups = [groups[size] for size in sorted(groups)]
        # A step has fewer rows of a group with long ones, so it comes more often.
        shares = np.array([len(own) / self._count(own) for own in self._groups])
        self._shares = shares / shares.sum()
        self._row = cache(lambda number, view: row_of(self._pairs[number][1], view))

    def _count(self, group: Sequence[int]) -> int:
        return max(1, self._cells // max(self._pairs[number][1].cells for number in group))

    def draw(self, rng: np.random.Generator, device: torch.device) -> Rows:
        group = self._groups[int(rng.choice(len(self._groups), p=self._shares))]
        numbers = rng.choice(group, self._count(group)).tolist()
        views = rng.integers(TURNS, size=len(numbers)).tolist()
        tasks = [self._pairs[number][0] for number in numbers]
        rows = [
            _recoloured(self._row(number, view), _table(self._free[task], rng))
            for number, view, task in zip(numbers, views, tasks, strict=True)
        ]
        return _together(rows, tasks, views, device)


def _table(free: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Return what each colour becomes: with a generator, the free ones are permuted. OUTSIDE stays."""
    table = np.arange(COLOURS + 1, dtype=np.int8)
    if rng is not None:
        table[free] = rng.permutation(free)
    return table


def _recoloured(row: Row, table: np.ndarray) -> Row:
    return row._replace(cells=table[row.cells], targets=table[row.targets])


def _together(rows: Sequence[Row], tasks: Sequence[int], views: Sequence[int], device: torch.device) -> Rows:
    """Pad rows to the longest."""
    lengths = [len(row.targets) for row in rows]
    longest = max(lengths)

    def padded(own: Sequence[np.ndarray], filling: int) -> Tensor:
        whole = np.full((len(rows), longest, *own[0].shape[1:]), filling, np.int8)
        for place, one in enumerate(own):
            whole[place, : len(one)] = one
        return torch.from_numpy(whole).to(device)

    cells, places, targets = zip(*rows, strict=True)
    there = np.arange(longest) < np.array(lengths)[:, None]
    return Rows(
        padded(cells, OUTSIDE),
        padded(places, 0),
        padded(targets, OUTSIDE),
        torch.tensor(tasks, device=device),
        torch.tensor(views, device=device),
        None if there.all() else torch.from_numpy(there).to(device),
    )


def _upright(told: np.ndarray, pair: Pair, view: int, table: np.ndarray) -> np.ndarray:
    """Return the log-probabilities (10, h, w) of a canvas from those of a row's cells (L, 10) in a view, whose colours
    were replaced by this table."""
    height, width = pair.planes.shape[1:]
    shape = (width, height) if view % 2 else (height, width)
    if view >= TURNS // 2:
        shape = shape[::-1]
    colours = told[: height * width, table[:COLOURS]].T.reshape(COLOURS, *shape)
    return np.stack([turn_back(one, view) for one in colours])


def _elected(task: FiledTask, number: int, total: np.ndarray, ballots: Sequence[np.ndarray]) -> Votes:
    votes = elected(total.argmax(0).astype(np.int8), ballots)
    return votes.after(task.tests[number].planes[0]) if task.exact else votes
