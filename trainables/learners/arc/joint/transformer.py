"""`joint` in a size for a GPU: one transformer over the cells of a pair of grids, with a vector for each task.

As in the trunk (`trunk.py`), all tasks share the weights, a task's vector is added to every cell's first state, and the
first plane's colour gets a bonus. Every cell reads all others. Their places, in three dimensions (which grid, row,
column), enter as rotations of queries and keys (Su et al. 2021). A vector for each of the eight turns says in which
one the task is seen: "down" and "left" are then one rule. Related: mdlARC (2026), VARC (2025).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.learners.arc.canvas import PLANES
from trainables.learners.arc.percell.net import COPY_BIAS
from trainables.tasks.arc.grids import COLOURS
from trainables.tasks.arc.views import TURNS

GRIDS = 2  # the input and the canvas
SLOWEST = 100.0  # the longest wave of a rotation, in cells over 2 pi; a grid has at most 30
SPREAD = 0.02  # standard deviation of initial weights


@dataclass(frozen=True)
class TransformerShape:
    """About 75M parameters by default. A head has `hidden_size` / `heads` numbers, at least 8 and even."""

    hidden_size: int = 640
    layers: int = 15
    heads: int = 10
    dropout: float = 0.1  # of what a layer adds

    def __post_init__(self) -> None:
        size, rest = divmod(self.hidden_size, self.heads)
        if rest or size < 8 or size % 2:
            given = f"hidden_size={self.hidden_size} and heads={self.heads}"
            raise ValueError(f"{given} give heads of {size + rest / self.heads:g} numbers; make that even, at least 8")


class Transformer(nn.Module):
    """Maps cells to the logits of their output colours.

    Shapes: N rows of L cells, P planes, C = hidden_size, T tasks.
    """

    def __init__(self, shape: TransformerShape, tasks: int) -> None:
        super().__init__()
        size = shape.hidden_size
        self.colours = nn.Linear(PLANES * COLOURS, size, bias=False)
        self.grids, self.turns, self.tasks = (nn.Embedding(many, size) for many in (GRIDS, TURNS, tasks))
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.layers))
        self.norm, self.head = nn.RMSNorm(size), nn.Linear(size, COLOURS, bias=False)
        self._pairs = size // shape.heads // 2
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                last = name.endswith(("attended.weight", "down.weight"))  # what is added to the state begins smaller
                nn.init.normal_(weight, std=SPREAD / (2 * shape.layers) ** 0.5 if last else SPREAD)
        nn.init.zeros_(self.head.weight)  # the answer begins as the first plane

    def vectors(self, tasks: Tensor) -> Tensor:
        """Return the tasks' vectors (N, C); the mean of all for a task that took no part (-1)."""
        known = self.tasks.weight
        return torch.where(tasks[:, None] < 0, known.mean(0), known[tasks.clamp(min=0)])

    def forward(
        self, cells: Tensor, places: Tensor, tasks: Tensor, turns: Tensor, present: Tensor | None = None
    ) -> Tensor:
        """Return logits (N, L, 10) in float32 from cells (N, L, P) and places (N, L, 3), tasks and turns (N,).

        `present` (N, L): which cells are no padding; without it, all.
        """
        seen = F.one_hot(cells.long(), COLOURS + 1)[..., :COLOURS].float()
        state = self.colours(seen.flatten(2)) + self.grids(places[..., 0].long())
        state = state + (self.vectors(tasks) + self.turns(turns))[:, None]
        waves, mask = self._waves(places), None if present is None else present[:, None, None]
        for block in self.blocks:
            state = block(state, waves, mask)
        return self.head(self.norm(state)).float() + COPY_BIAS * seen[:, :, 0]

    def _waves(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines (N, 1, L, numbers of a head / 2): an eighth for the grid, the rest for row and
        column."""
        grid = max(1, self._pairs // 8)
        row = (self._pairs - grid) // 2
        angles = [
            places[..., axis, None].float() * SLOWEST ** (-torch.arange(many, device=places.device) / many)
            for axis, many in enumerate((grid, row, self._pairs - grid - row))
        ]
        whole = torch.cat(angles, -1)[:, None]
        return whole.cos(), whole.sin()


class _Block(nn.Module):
    """Attention, then a layer of 4 C numbers; each is added to the state."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        size = shape.hidden_size
        self.heads, self.dropout = shape.heads, shape.dropout
        self.before, self.between = nn.RMSNorm(size), nn.RMSNorm(size)
        self.asked, self.attended = nn.Linear(size, 3 * size, bias=False), nn.Linear(size, size, bias=False)
        self.up, self.down = nn.Linear(size, 4 * size, bias=False), nn.Linear(4 * size, size, bias=False)

    def forward(self, state: Tensor, waves: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        parts = self.asked(self.before(state)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = (_turned(F.rms_norm(part, part.shape[-1:]), waves).to(parts.dtype) for part in parts[:2])
        found = F.scaled_dot_product_attention(query, key, parts[2], attn_mask=mask)
        state = state + self._dropped(self.attended(found.transpose(1, 2).flatten(2)))
        return state + self._dropped(self.down(F.gelu(self.up(self.between(state)))))

    def _dropped(self, change: Tensor) -> Tensor:
        return F.dropout(change, self.dropout, self.training)


def _turned(part: Tensor, waves: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate pairs of numbers: of query or key (N, heads, L, numbers)."""
    (first, second), (cos, sin) = part.float().chunk(2, -1), waves
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)
