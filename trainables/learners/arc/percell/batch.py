"""Training and answering of `percell` networks: several ARC tasks, and seeds of each, as one batched computation.

Sees `Canvas`es, which hold no test outputs. Step k of a network draws its augmentation from (its seed, k) alone, so a
resumed run needs no generator's state, and which tasks share a batch changes no number.
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


class Slot(NamedTuple):
    """A network's place: which canvas it learns, and where its weights and its order of data begin."""

    task: int
    seed: int


class Batch:
    """Networks of one side. Those that learn the same canvas answer together.

    `room`: how many tasks such a batch may hold. A network alone where more would fit gets an idle twin: torch's
    products of one matrix round otherwise than those of several, and a task's numbers must not tell who else is there.
    """

    def __init__(
        self, canvases: Sequence[Canvas], config: PercellHyperparameters, slots: Sequence[Slot], room: int = 1
    ) -> None:
        self.canvases, self.used = canvases, len(slots)
        self.answering = len(canvases)  # the first so many are asked for answers
        self.slots = [*slots, *slots] if len(slots) == 1 < room else list(slots)
        self._config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.nets = self._build().to(self.device)
        self._optimizer = torch.optim.AdamW(
            self._groups(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.average = {name: value.detach().clone() for name, value in self.nets.named_parameters()}
        self.steps = 0
        self.views = range(TURNS) if config.dihedral else range(1)
        side = max(canvas.side for canvas in canvases)
        self._pairs = [_pairs(canvas, self.views, side) for canvas in canvases]

    def _build(self) -> nn.Module:
        return PercellNets(self._config.hidden_size, [slot.seed for slot in self.slots])

    def _groups(self) -> Any:
        """Parameters as the optimizer takes them."""
        return self.nets.parameters()

    def _losses(self, cells: Tensor, targets: Tensor) -> list[Tensor]:
        """(T,) each, of a training step. All are trained; the first is what the networks are judged by."""
        logits = self.nets(cells, self._config.recurrent_steps, self._config.supervised_steps)
        return [torch.stack([cross_entropy(each, targets) for each in logits]).mean(0)]

    def _stepped(self) -> None:
        """After each step: where something else learns, too."""

    def _say(self, weights: dict[str, Tensor], slot: int, cells: Tensor) -> Tensor:
        """One network's last logits (1, N, 10, S, S) of cells (1, N, P, S, S)."""
        own = {name: value[slot : slot + 1] for name, value in weights.items()}
        return torch.func.functional_call(self.nets, own, (cells, self._config.recurrent_steps))[-1]

    def train(self, steps: int) -> np.ndarray:
        """That many AdamW steps; per network the mean of the first loss (NaN or inf is returned, never hidden)."""
        config, losses = self._config, []
        for _ in range(steps):
            parts = self._losses(*self._batch())
            self._optimizer.zero_grad()
            torch.stack(parts).sum().backward()  # networks never meet: each gets its own gradient
            for group in self._optimizer.param_groups:  # what one part learns must not shorten another's steps
                clip(group["params"], config.max_grad_norm)
            self._optimizer.step()
            self._stepped()
            self.steps += 1
            # Early on the average must forget the initial weights faster than its final rate would.
            decay = min(config.ema_decay, self.steps / (self.steps + 10))
            get_ema_multi_avg_fn(decay)(list(self.average.values()), list(self.nets.parameters()), self.steps)
            losses.append(parts[0].detach())
        return torch.stack(losses).mean(0)[: self.used].cpu().numpy() if losses else np.full(self.used, math.nan)

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Cells (T, N, P, S, S) and targets (T, N, S, S): every demonstration in turn, in random views and colours."""
        drawn = [self._draw(slot) for slot in self.slots]
        cells, targets = (torch.from_numpy(np.stack(part)).long().to(self.device) for part in zip(*drawn, strict=True))
        return cells, targets

    def _draw(self, slot: Slot) -> tuple[np.ndarray, np.ndarray]:
        inputs, outputs = self._pairs[slot.task]
        rng = np.random.default_rng((slot.seed, self.steps))
        size, count = self._config.per_device_train_batch_size, inputs.shape[1]
        chosen = np.concatenate([rng.permutation(count) for _ in range(-(-size // count))])[:size]
        views = rng.integers(len(self.views), size=size)
        cells, targets = inputs[views, chosen], outputs[views, chosen]
        if self._config.permute_colours:
            table = np.tile(np.arange(COLOURS + 1, dtype=np.int8), (size, 1))
            free = self.canvases[slot.task].free_colours
            for row in table:
                row[free] = rng.permutation(free)
            cells, targets = (
                np.take_along_axis(table, grid.reshape(size, -1).astype(np.int64), 1).reshape(grid.shape)
                for grid in (cells, targets)
            )
        return cells, targets

    @torch.no_grad()
    def attempts(self) -> list[list[tuple[Grid, Grid]]]:
        """Per task, per test input, two answers: what the averaged weights of all seeds say in the mean over all views;
        then what single views, of averaged and of last weights, name most often beside it. A lens that explains every
        demonstration by itself answers first. Weights that are not finite answer nothing: empty grids."""
        return [
            [self._two(task, planes) for planes in canvas.tests]
            for task, canvas in enumerate(self.canvases[: self.answering])
        ]

    def _two(self, task: int, planes: np.ndarray) -> tuple[Grid, Grid]:
        first, second = self._voted(task, planes)
        seen = planes[0]
        return (
            (seen, second if np.array_equal(seen, first) else first) if self.canvases[task].exact else (first, second)
        )

    def _voted(self, task: int, planes: np.ndarray) -> tuple[Grid, Grid]:
        last = {name: value.detach() for name, value in self.nets.named_parameters()}
        own = [number for number, slot in enumerate(self.slots[: self.used]) if slot.task == task]
        votes = [
            np.concatenate([self.log_probabilities(slot, planes, weights) for slot in own])
            for weights in (self.average, last)
        ]
        if not np.isfinite(votes).all():  # of NaN, argmax would make a black grid
            return NO_ANSWER, NO_ANSWER
        first = votes[0].mean(0).argmax(0).astype(np.int8)  # (height, width)
        ballots = [grid.tobytes() for grid in np.concatenate(votes).argmax(1).astype(np.int8)]
        ballots.append(votes[1].mean(0).argmax(0).astype(np.int8).tobytes())
        others = Counter(ballot for ballot in ballots if ballot != first.tobytes()).most_common(1)
        second = np.frombuffer(others[0][0], dtype=np.int8).reshape(first.shape) if others else first
        return first, second

    @torch.no_grad()
    def log_probabilities(self, slot: int, planes: np.ndarray, weights: dict[str, Tensor]) -> np.ndarray:
        """What one network says of each view of a grid, turned back upright: (V, 10, height, width)."""
        side = max(planes.shape[1:])
        cells = np.stack([pad([turn(plane, view) for plane in planes], side) for view in self.views])
        logits = self._say(weights, slot, torch.from_numpy(cells[None]).long().to(self.device))
        upright = []
        for view, colours in zip(self.views, logits[0].log_softmax(1).cpu().numpy(), strict=True):
            height, width = turn(planes[0], view).shape
            upright.append(np.stack([turn_back(plane[:height, :width], view) for plane in colours]))
        return np.stack(upright)

    def state(self) -> dict[str, Any]:
        """Live tensors: training goes on in place."""
        return {
            "nets": self.nets.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self.average,
            "steps": self.steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.nets.load_state_dict(state["nets"])
        rates = [{name: group[name] for name in ("lr", "weight_decay")} for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(self._optimizer.param_groups, rates, strict=True):
            group.update(own)  # a clone's may differ from those that the state was made with
        self.average = {name: value.to(self.device, copy=True) for name, value in state["average"].items()}
        self.steps = state["steps"]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """(T, N, 10, S, S), (T, N, S, S) -> (T,): nats per cell, over all cells of a task that are not OUTSIDE."""
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1), ignore_index=OUTSIDE, reduction="none")
    return nats.view(targets.shape).sum((1, 2, 3)) / (targets != OUTSIDE).sum((1, 2, 3))


def clip(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Each network's gradient to a norm of at most `largest`, as `torch.nn.utils.clip_grad_norm_` clips one alone."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:  # a part that this loss does not use
        return
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)  # (T,)
    factors = (largest / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))


def pad(planes: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Grids of one size -> (len, side, side) int8, OUTSIDE at the right and below."""
    cells = np.full((len(planes), side, side), OUTSIDE, dtype=np.int8)
    for index, grid in enumerate(planes):
        cells[index, : grid.shape[0], : grid.shape[1]] = grid
    return cells


def _pairs(canvas: Canvas, views: range, side: int) -> tuple[np.ndarray, np.ndarray]:
    """All views of all demonstrations D: (V, D, P, S, S) and (V, D, S, S), int8."""
    inputs = np.full((len(views), len(canvas.demonstrations), PLANES, side, side), OUTSIDE, dtype=np.int8)
    outputs = np.full((len(views), len(canvas.demonstrations), side, side), OUTSIDE, dtype=np.int8)
    for view in views:
        for index, (planes, target) in enumerate(canvas.demonstrations):
            inputs[view, index] = pad([turn(plane, view) for plane in planes], side)
            outputs[view, index] = pad([turn(target, view)], side)[0]
    return inputs, outputs
