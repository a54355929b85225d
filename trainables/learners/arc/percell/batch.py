"""Train `percell` networks, and answer with them: several ARC tasks, and seeds of each, in one batched computation.

The input is `Canvas`es, which hold no test outputs. Step k of a network draws its augmentation from (its seed, k)
alone. So a resumed run needs no generator's state, and the other tasks of a batch change no number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trainables.learners.arc.answers import NO_ANSWER
from trainables.learners.arc.canvas import OUTSIDE, PLANES, Canvas
from trainables.learners.arc.percell.hyperparameters import PercellHyperparameters
from trainables.learners.arc.percell.net import PercellNets
from trainables.tasks.arc.grids import COLOURS, Grid
from trainables.tasks.arc.views import TURNS, turn, turn_back


class NetworkSpec(NamedTuple):
    """One network of a batch: the index of its canvas, and the random seed of its weights and its order of data."""

    task: int
    seed: int


class Votes(NamedTuple):
    """Two answers to a test input, and the share of the votes that agree with the first. `source`: what gave them, if
    it was not networks."""

    first: Grid
    second: Grid
    agreement: float
    source: str = ""

    def after(self, exact: Grid) -> Votes:
        """Return the votes behind a grid that takes the first place: that of a lens which gives every
        demonstration."""
        return Votes(exact, self.second if np.array_equal(exact, self.first) else self.first, 1.0)

    def sharing(self, other: Votes) -> Votes:
        """Return these votes, of which another source takes the second attempt, if its first answer is another one."""
        same = np.array_equal(self.first, other.first)
        return self._replace(
            second=self.second if same else other.first, source="_".join([self.source, "and", "networks"])
        )


def elected(first: Grid, ballots: Sequence[Grid]) -> Votes:
    """Return `first`, and as the second the commonest other grid of the ballots, which are as large."""
    cast = [ballot.tobytes() for ballot in ballots]
    others = Counter(one for one in cast if one != first.tobytes()).most_common(1)
    second = np.frombuffer(others[0][0], dtype=np.int8).reshape(first.shape) if others else first
    return Votes(first, second, cast.count(first.tobytes()) / len(cast))


class NetworkBatch:
    """Networks whose grids have one side length. Networks of the same canvas answer together.

    `capacity`: how many tasks such a batch may hold. A single network in a batch that could hold more gets a copy that
    is never used: torch rounds products of one matrix differently from those of several, and a task's numbers must not
    depend on the other tasks.
    """

    def __init__(
        self,
        canvases: Sequence[Canvas],
        config: PercellHyperparameters,
        specs: Sequence[NetworkSpec],
        capacity: int = 1,
    ) -> None:
        self.canvases, self.used = canvases, len(specs)
        self.answering = len(canvases)  # only the first so many canvases are answered
        self.specs = [*specs, *specs] if len(specs) == 1 < capacity else list(specs)
        self._config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.nets = self._build().to(self.device)
        self.optimizer = torch.optim.AdamW(
            self._groups(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.average = {name: value.detach().clone() for name, value in self.nets.named_parameters()}
        self.steps = 0
        self.views = range(TURNS) if config.dihedral else range(1)
        side = max(canvas.side for canvas in canvases)
        self._pairs = [all_views(canvas, self.views, side) for canvas in canvases]

    def _build(self) -> nn.Module:
        return PercellNets(self._config.hidden_size, [spec.seed for spec in self.specs])

    def _groups(self) -> Any:
        """Return the parameters, or groups of them, for the optimizer."""
        return self.nets.parameters()

    def losses(self, cells: Tensor, targets: Tensor) -> list[Tensor]:
        """Return the losses of a training step, (T,) each. All are minimised; the first one is reported."""
        logits = self.nets(cells, self._config.recurrent_steps, self._config.supervised_steps)
        return [torch.stack([cross_entropy(each, targets) for each in logits]).mean(0)]

    def _stepped(self) -> None:
        """Called after each step; a subclass may take a step of another optimizer."""

    def _logits(self, weights: dict[str, Tensor], network: int, cells: Tensor) -> Tensor:
        """Return one network's last logits (1, N, 10, S, S) for cells (1, N, P, S, S)."""
        own = {name: value[network : network + 1] for name, value in weights.items()}
        return torch.func.functional_call(self.nets, own, (cells, self._config.recurrent_steps))[-1]

    def train(self, steps: int) -> np.ndarray:
        """Take so many AdamW steps and return each network's mean of the first loss (NaN and inf are kept)."""
        config, losses = self._config, []
        for _ in range(steps):
            parts = self.losses(*self.next_batch())
            self.optimizer.zero_grad()
            torch.stack(parts).sum().backward()  # networks never meet: each gets its own gradient
            for group in self.optimizer.param_groups:  # separately, so that no group shrinks another's steps
                clip(group["params"], config.max_grad_norm)
            self.optimizer.step()
            self._stepped()
            self.steps += 1
            # Early on the average must forget the initial weights faster than its final rate would.
            decay = min(config.ema_decay, self.steps / (self.steps + 10))
            get_ema_multi_avg_fn(decay)(list(self.average.values()), list(self.nets.parameters()), self.steps)
            losses.append(parts[0].detach())
        return torch.stack(losses).mean(0)[: self.used].cpu().numpy() if losses else np.full(self.used, math.nan)

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Return cells (T, N, P, S, S) and targets (T, N, S, S): demonstrations in random order, views and colours."""
        drawn = [self._draw(spec) for spec in self.specs]
        cells, targets = (torch.from_numpy(np.stack(part)).long().to(self.device) for part in zip(*drawn, strict=True))
        return cells, targets

    def _draw(self, spec: NetworkSpec) -> tuple[np.ndarray, np.ndarray]:
        inputs, outputs = self._pairs[spec.task]
        rng = np.random.default_rng((spec.seed, self.steps))
        size, count = self._config.per_device_train_batch_size, inputs.shape[1]
        chosen = np.concatenate([rng.permutation(count) for _ in range(-(-size // count))])[:size]
        views = rng.integers(len(self.views), size=size)
        cells, targets = inputs[views, chosen], outputs[views, chosen]
        if self._config.permute_colours:
            cells, targets = recoloured(cells, targets, self.canvases[spec.task].free_colours, rng)
        return cells, targets

    def attempts(self) -> list[list[tuple[Grid, ...]]]:
        """Return two answers for each test input of each task."""
        return [[(own.first, own.second) for own in of_task] for of_task in self.votes()]

    @torch.no_grad()
    def votes(self) -> list[list[Votes]]:
        """Return two answers for each test input of each task, and how many votes agree with the first.

        The first is the mean prediction of the averaged weights over all seeds and views. The second is the commonest
        other prediction of single views, by averaged and by last weights; these are the votes. A lens that gives every
        demonstration's output exactly takes the first place. Weights that are not finite give empty grids.
        """
        return [
            [self._two(task, planes) for planes in canvas.tests]
            for task, canvas in enumerate(self.canvases[: self.answering])
        ]

    def _two(self, task: int, planes: np.ndarray) -> Votes:
        voted = self._voted(task, planes)
        return voted.after(planes[0]) if self.canvases[task].exact else voted

    def _voted(self, task: int, planes: np.ndarray) -> Votes:
        last = {name: value.detach() for name, value in self.nets.named_parameters()}
        own = [number for number, spec in enumerate(self.specs[: self.used]) if spec.task == task]
        votes = [
            np.concatenate([self.log_probabilities(network, planes, weights) for network in own])
            for weights in (self.average, last)
        ]
        if not np.isfinite(votes).all():  # argmax turns NaN into a black grid
            return Votes(NO_ANSWER, NO_ANSWER, 0.0)
        first = votes[0].mean(0).argmax(0).astype(np.int8)  # (height, width)
        ballots = [*np.concatenate(votes).argmax(1).astype(np.int8), votes[1].mean(0).argmax(0).astype(np.int8)]
        return elected(first, ballots)

    @torch.no_grad()
    def log_probabilities(self, network: int, planes: np.ndarray, weights: dict[str, Tensor]) -> np.ndarray:
        """Return one network's log-probabilities for each view of a grid, turned back: (V, 10, height, width)."""
        side = max(planes.shape[1:])
        cells = np.stack([pad([turn(plane, view) for plane in planes], side) for view in self.views])
        logits = self._logits(weights, network, torch.from_numpy(cells[None]).long().to(self.device))
        upright = []
        for view, colours in zip(self.views, logits[0].log_softmax(1).cpu().numpy(), strict=True):
            height, width = turn(planes[0], view).shape
            upright.append(np.stack([turn_back(plane[:height, :width], view) for plane in colours]))
        return np.stack(upright)

    def state(self) -> dict[str, Any]:
        """Return the tensors themselves; further training changes them in place."""
        return {
            "nets": self.nets.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "steps": self.steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.nets.load_state_dict(state["nets"])
        rates = [{name: group[name] for name in ("lr", "weight_decay")} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(self.optimizer.param_groups, rates, strict=True):
            group.update(own)  # a clone may have other rates than the state
        self.average = {name: value.to(self.device, copy=True) for name, value in state["average"].items()}
        self.steps = state["steps"]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each task (T,) in nats per cell, over all cells that are not OUTSIDE.

    `logits` (T, N, 10, S, S), `targets` (T, N, S, S).
    """
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1), ignore_index=OUTSIDE, reduction="none")
    return nats.view(targets.shape).sum((1, 2, 3)) / (targets != OUTSIDE).sum((1, 2, 3))


def clip(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Clip each network's gradient to a norm of at most `largest`, as `clip_grad_norm_` clips a single network's."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:  # a part that this loss does not use
        return
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)  # (T,)
    factors = (largest / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))


def recoloured(
    cells: np.ndarray, targets: np.ndarray, free: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Permute the free colours of N grids, (N, P, S, S) and (N, S, S), each in its own way."""
    table = np.tile(np.arange(COLOURS + 1, dtype=np.int8), (len(cells), 1))
    for row in table:
        row[free] = rng.permutation(free)
    first, second = (
        np.take_along_axis(table, grid.reshape(len(grid), -1).astype(np.int64), 1).reshape(grid.shape)
        for grid in (cells, targets)
    )
    return first, second


def pad(planes: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Pad grids of one size with OUTSIDE, on the right and below, to (len, side, side) int8."""
    cells = np.full((len(planes), side, side), OUTSIDE, dtype=np.int8)
    for index, grid in enumerate(planes):
        cells[index, : grid.shape[0], : grid.shape[1]] = grid
    return cells


def all_views(canvas: Canvas, views: range, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all views of the D demonstrations: inputs (V, D, P, S, S) and outputs (V, D, S, S), int8."""
    inputs = np.full((len(views), len(canvas.demonstrations), PLANES, side, side), OUTSIDE, dtype=np.int8)
    outputs = np.full((len(views), len(canvas.demonstrations), side, side), OUTSIDE, dtype=np.int8)
    for view in views:
        for index, (planes, target) in enumerate(canvas.demonstrations):
            inputs[view, index] = pad([turn(plane, view) for plane in planes], side)
            outputs[view, index] = pad([turn(target, view)], side)[0]
    return inputs, outputs
