"""Which ARC tasks share a batch of networks: those whose grids have the same side, as many as pay on this device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch

from trainables.learners.arc.canvas import Canvas

# Cells of the grids of all networks of a batch. Small grids are trained together, as single operations on them cost
# more than their arithmetic; above these sizes a CPU's cache is full, and nothing is gained. The GPU's is a guess.
CELLS_AT_ONCE = {"cpu": 400, "cuda": 64_000}


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
