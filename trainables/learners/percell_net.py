"""The network of `percell`, and its training on the demonstrations of one ARC task.

Every cell holds a state of `hidden_size` numbers. A recurrent step lets it see its 3x3 neighbourhood and the maximum
over its row, its column and the whole grid (lines and "the largest of all" need more than neighbours), with the same
weights in all cells and steps. The input's own colour keeps a head start in the logits, since most cells of most tasks
do not change. Cells are colours 0 to 9, or OUTSIDE where a grid is smaller than its batch; such cells stay zero, so
padding changes no prediction. A related network: Growing neural cellular automata (Mordvintsev et al. 2020).

Shapes: N grids, C = hidden_size, S = side of the square batch, V = views of one grid.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.tasks.arc import Puzzle
from trainables.tasks.arc_grids import COLOURS, Grid
from trainables.tasks.arc_views import turn, turn_back, varying_colours

if TYPE_CHECKING:
    from trainables.learners.percell import PercellConfig

OUTSIDE = COLOURS
COPY_BIAS = 3.0  # nats the input's own colour starts ahead: at most 31 % is left for the other nine together


class PercellNet(nn.Module):
    """Cells (N, S, S) of int64 -> logits (N, 10, S, S), one tensor per supervised step, the last step last."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(COLOURS + 1, hidden_size, padding_idx=OUTSIDE)
        self.neighbours = nn.Conv2d(hidden_size, hidden_size, 3, padding=1)
        self.row = nn.Linear(hidden_size, hidden_size, bias=False)
        self.column = nn.Linear(hidden_size, hidden_size, bias=False)
        self.grid = nn.Linear(hidden_size, hidden_size, bias=False)
        self.update = nn.Linear(hidden_size, hidden_size)
        self.head = nn.Linear(hidden_size, COLOURS)
        with torch.no_grad():  # small at first: eight residual steps must not blow up, and the copy must win
            self.embed.weight.mul_(0.3)
            self.update.weight.mul_(0.5)
            self.head.weight.mul_(0.1)

    def forward(self, cells: Tensor, steps: int, supervised: int = 1) -> list[Tensor]:
        outside = cells == OUTSIDE
        inside = (~outside).unsqueeze(3).float() if bool(outside.any()) else None
        copied = COPY_BIAS * F.one_hot(cells, COLOURS + 1)[..., :COLOURS]
        state = self.embed(cells)  # (N, S, S, C): channels last, twice as fast as first on a CPU
        logits = []
        for step in range(steps):
            seen = self.neighbours(state.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            # (N, S, C), (N, S, C), (N, C); relu: the zeros outside must not count as a maximum
            rows, columns = state.amax(2).relu(), state.amax(1).relu()
            everywhere = self.grid(rows.amax(1)).unsqueeze(1)
            seen = seen + self.row(rows).unsqueeze(2) + (self.column(columns) + everywhere).unsqueeze(1)
            state = state + self.update(F.relu(seen))
            if inside is not None:
                state = state * inside
            if step >= steps - supervised:
                logits.append((self.head(state) + copied).permute(0, 3, 1, 2))
        return logits


def parameter_count(hidden_size: int) -> int:
    """Embedding 11 C, 3x3 convolution 9 C^2 + C, three pooled maps 3 C^2, update C^2 + C, head 10 C + 10."""
    return 13 * hidden_size**2 + 23 * hidden_size + 10


def pad(grids: Sequence[Grid], side: int) -> Tensor:
    """Grids -> (N, side, side) int64, OUTSIDE at the right and below."""
    cells = np.full((len(grids), side, side), OUTSIDE, dtype=np.int64)
    for index, grid in enumerate(grids):
        cells[index, : grid.shape[0], : grid.shape[1]] = grid
    return torch.from_numpy(cells)


class Solver:
    """One ARC task: a network, its optimizer and the running average of its weights. Sees a `Puzzle`, so no answers.

    Step k draws its augmentation from (seed, k) alone, so a resumed run needs no generator's state.
    """

    def __init__(self, puzzle: Puzzle, config: PercellConfig, seed: int) -> None:
        self._puzzle, self._config, self._seed = puzzle, config, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = PercellNet(config.hidden_size)
        self._optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.average = {name: value.detach().clone() for name, value in self.net.named_parameters()}
        self.steps = 0
        self._views = range(8) if config.dihedral else range(1)
        side = max(max(source.shape) for source, _ in puzzle.demonstrations)
        pairs = puzzle.demonstrations
        self._inputs = torch.stack([pad([turn(source, v) for source, _ in pairs], side) for v in self._views])
        self._outputs = torch.stack([pad([turn(target, v) for _, target in pairs], side) for v in self._views])
        self._free_colours = varying_colours(puzzle)

    def train(self, steps: int) -> float:
        """That many AdamW steps; the mean loss in nats per cell (NaN or inf is returned, never hidden)."""
        config, losses = self._config, []
        for _ in range(steps):
            cells, targets = self._batch()
            logits = self.net(cells, config.recurrent_steps, config.supervised_steps)
            loss = torch.stack([F.cross_entropy(each, targets, ignore_index=OUTSIDE) for each in logits]).mean()
            self._optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), config.max_grad_norm)
            self._optimizer.step()
            self.steps += 1
            # Early on the average must forget the initial weights faster than its final rate would.
            decay = min(config.ema_decay, self.steps / (self.steps + 10))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.values()), list(self.net.parameters()), 1 - decay)
            losses.append(loss.item())
        return float(np.mean(losses)) if losses else math.nan

    def _batch(self) -> tuple[Tensor, Tensor]:
        """(N, S, S) cells and targets: every demonstration in turn, each in a random view and colouring."""
        rng = np.random.default_rng((self._seed, self.steps))
        size, count = self._config.per_device_train_batch_size, len(self._puzzle.demonstrations)
        chosen = np.concatenate([rng.permutation(count) for _ in range(-(-size // count))])[:size]
        views = torch.from_numpy(rng.integers(len(self._views), size=size))
        cells, targets = self._inputs[views, chosen], self._outputs[views, chosen]
        if self._config.permute_colours:
            table = np.tile(np.arange(COLOURS + 1), (size, 1))
            for row in table:
                row[self._free_colours] = rng.permutation(self._free_colours)
            recolour = torch.from_numpy(table)
            cells, targets = (recolour.gather(1, grid.flatten(1)).view_as(grid) for grid in (cells, targets))
        return cells, targets

    @torch.no_grad()
    def attempts(self) -> list[tuple[Grid, Grid]]:
        """Two answers per test input: the averaged weights' mean over all views, and the views' next favourite."""
        return [self._two_answers(source) for source in self._puzzle.test_inputs]

    def _two_answers(self, source: Grid) -> tuple[Grid, Grid]:
        last = {name: value.detach() for name, value in self.net.named_parameters()}
        votes = [self._log_probabilities(source, weights) for weights in (self.average, last)]
        first = votes[0].mean(0).argmax(0).astype(np.int8)  # (height, width)
        ballots = [grid.tobytes() for grid in np.concatenate(votes).argmax(1).astype(np.int8)]
        ballots.append(votes[1].mean(0).argmax(0).astype(np.int8).tobytes())
        others = Counter(ballot for ballot in ballots if ballot != first.tobytes()).most_common(1)
        second = np.frombuffer(others[0][0], dtype=np.int8).reshape(first.shape) if others else first
        return first, second

    def _log_probabilities(self, source: Grid, weights: dict[str, Tensor]) -> np.ndarray:
        """(V, 10, height, width), every view turned back upright."""
        side = max(source.shape)
        cells = pad([turn(source, view) for view in self._views], side)
        logits = torch.func.functional_call(self.net, weights, (cells, self._config.recurrent_steps))[-1]
        upright = []
        for view, colours in zip(self._views, logits.log_softmax(1).numpy(), strict=True):
            height, width = turn(source, view).shape
            upright.append(np.stack([turn_back(plane[:height, :width], view) for plane in colours]))
        return np.stack(upright)

    def state(self) -> dict[str, Any]:
        """Live tensors: training goes on in place."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self.average,
            "steps": self.steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.average = {name: value.clone() for name, value in state["average"].items()}
        self.steps = state["steps"]
