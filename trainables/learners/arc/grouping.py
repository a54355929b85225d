"""Groups ARC tasks into batches of networks: tasks whose grids have one side, as many as are efficient on this
device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch

from trainables.learners.arc.canvas import Canvas

# Cells of all grids of a batch. Small grids are trained together, because an operation's overhead on them exceeds its
# arithmetic. Above these sizes a CPU's cache is full, and larger batches gain nothing. The GPU's value is a guess.
CELLS_PER_BATCH = {"cpu": 400, "cuda": 64_000}


def batch_capacity(side: int, networks: int) -> int:
    """Return how many tasks of this side, with so many networks each, share a batch."""
    limit = CELLS_PER_BATCH["cuda" if torch.cuda.is_available() else "cpu"]
    return max(1, limit // (side * side * networks))


def together(canvases: Mapping[str, Canvas], networks: int) -> Iterator[tuple[str, ...]]:
    """Yield the keys of the tasks of each batch; each task has so many networks."""
    sides: dict[int, list[str]] = defaultdict(list)
    for key, own in canvases.items():
        sides[own.side].append(key)
    for side, keys in sorted(sides.items()):
        size = batch_capacity(side, networks)
        yield from (tuple(keys[start : start + size]) for start in range(0, len(keys), size))
