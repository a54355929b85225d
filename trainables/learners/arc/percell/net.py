"""The network of `percell`: one small recurrent network per ARC task, many tasks in one batched computation.

Every cell has a state of `hidden_size` numbers. In a recurrent step it reads its 3x3 neighbourhood and the maximum over
its row, its column and the whole grid (rules about lines, or about the largest of all, need more than neighbours). All
cells and steps share weights. The first plane's colour gets a bonus in the logits, because most cells of most tasks do
not change. Cells are colours 0 to 9, or OUTSIDE where a grid is smaller than its batch; such cells stay zero, so
padding changes no prediction. A related network: Growing neural cellular automata (Mordvintsev et al. 2020).

Shapes: T networks (a task, a seed), N grids of each, P planes, S = side of the square batch, C = hidden_size. All
parameters are stacked along T. Networks do not interact, so no network's numbers depend on the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.learners.arc.canvas import OUTSIDE, PLANES
from trainables.tasks.arc.grids import COLOURS

COPY_BIAS = 3.0  # nats, bonus of the first plane's colour: it leaves at most 31 % for the other nine together


class PercellNets(nn.Module):
    """T networks. They map cells (T, N, P, S, S), int64, to logits (T, N, 10, S, S) after each of the last steps."""

    embed: Tensor
    neighbours: Tensor
    neighbours_bias: Tensor
    row: Tensor
    column: Tensor
    grid: Tensor
    update: Tensor
    update_bias: Tensor
    head: Tensor

    def __init__(self, hidden_size: int, seeds: Sequence[int]) -> None:
        """Initialise network t from `seeds[t]`, independently of the others."""
        super().__init__()
        drawn = [_initial(hidden_size, seed) for seed in seeds]
        for name in drawn[0]:
            self.register_parameter(name, nn.Parameter(torch.stack([values[name] for values in drawn])))

    def forward(self, cells: Tensor, steps: int, supervised: int = 1) -> list[Tensor]:
        return self.run(*look(cells), steps, supervised)

    def run(
        self, seen: Tensor, inside: Tensor, steps: int, supervised: int = 1, context: Tensor | None = None
    ) -> list[Tensor]:
        """Compute `forward` from the result of `look`; `context` is added to every cell's first state: (T, C), or
        (T, N, C) for a grid each."""
        tasks, grids, side = seen.shape[:3]
        size = self.update.shape[1]
        mask = None if bool(inside.all()) else inside.unsqueeze(4).to(seen.dtype)
        state = (seen.flatten(1, 3) @ self.embed).view(tasks, grids, side, side, size)
        if context is not None:
            state = state + context.view(tasks, -1, 1, 1, size)
            state = state if mask is None else state * mask
        copied = COPY_BIAS * seen[..., :COLOURS]
        logits = []
        for step in range(steps):
            state = self._step(state)
            if mask is not None:
                state = state * mask
            if step >= steps - supervised:
                answer = (state.flatten(1, 3) @ self.head).view(copied.shape)
                logits.append((answer + copied).permute(0, 1, 4, 2, 3))
        return logits

    def _step(self, state: Tensor) -> Tensor:
        """Update the state (T, N, S, S, C): channels last for the products, first for the convolution, which is grouped
        by task."""
        tasks, grids, side, _, size = state.shape
        first = state.permute(1, 0, 4, 2, 3).reshape(grids, tasks * size, side, side)
        kernels, bias = self.neighbours.flatten(0, 1), self.neighbours_bias.flatten()
        near = F.conv2d(first, kernels, bias, padding=1, groups=tasks)
        seen = near.view(grids, tasks, size, side, side).permute(1, 0, 3, 4, 2)
        # (T, N, S, C) twice, (T, N, C); relu: the zeros outside must not count as a maximum
        rows, columns = state.amax(3).relu(), state.amax(2).relu()
        along = (rows.flatten(1, 2) @ self.row).view(rows.shape)
        down = (columns.flatten(1, 2) @ self.column).view(columns.shape)
        everywhere = (rows.amax(2) @ self.grid).unsqueeze(2)
        seen = seen + along.unsqueeze(3) + (down + everywhere).unsqueeze(2)
        change = torch.baddbmm(self.update_bias, F.relu(seen).flatten(1, 3), self.update)
        return state + change.view(state.shape)


def look(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Encode cells (T, N, P, S, S).

    Returns the one-hot colours of all planes (T, N, S, S, 10 P), zeros where OUTSIDE, and where the first plane is not
    OUTSIDE (T, N, S, S).
    """
    seen = F.one_hot(cells, COLOURS + 1)[..., :COLOURS].float()
    return seen.permute(0, 1, 3, 4, 2, 5).flatten(4), cells[:, :, 0] != OUTSIDE


def _initial(size: int, seed: int) -> dict[str, Tensor]:
    """Return one network's initial values: torch's own initialisation of such layers, scaled. Products are x @
    weight."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(fan_in: int, *shape: int, scale: float = 1.0) -> Tensor:
        return (torch.rand(shape, generator=generator) * 2 - 1) * scale / fan_in**0.5

    embed = 0.3 * torch.randn(PLANES * COLOURS, size, generator=generator)
    embed[COLOURS:] *= 0.1  # the other planes add noise until the network learns to use them
    return {  # small at first, so that eight residual steps stay stable and the copy bonus dominates
        "embed": embed,
        "neighbours": uniform(9 * size, size, size, 3, 3),
        "neighbours_bias": uniform(9 * size, size),
        "row": uniform(size, size, size),
        "column": uniform(size, size, size),
        "grid": uniform(size, size, size),
        "update": uniform(size, size, size, scale=0.5),
        "update_bias": uniform(size, 1, size),
        "head": uniform(size, size, COLOURS, scale=0.1),
    }


def parameter_count(hidden_size: int) -> int:
    """Return the parameters of one network: embedding 10 P C, 3x3 convolution 9 C^2 + C, three maps of maxima 3 C^2,
    update C^2 + C, head 10 C."""
    return 13 * hidden_size**2 + (10 * PLANES + 12) * hidden_size
