"""Stacking: several planes drawn over one another, until they make the outputs.

Layers are laid from the top: each is right wherever it draws something that no layer above it covers. The next layer is
the one that draws most that is still missing. What is never drawn is background.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainables.tasks.arc.programs.rules import Candidate, Cells

MOST_LAYERS = 4
BEGINNINGS = 8  # so many top layers are tried


def stacks(cells: Cells) -> Iterator[Candidate]:
    """Yield the answers of stacks of two layers or more that make all outputs."""
    drawn = cells.shown > 0
    right = cells.shown == cells.wanted
    missing = cells.wanted > 0
    if not missing.any():
        return
    first = (drawn & ~right).sum(1) == 0
    gains = np.where(first, (drawn & missing).sum(1), 0)
    for top in np.argsort(-gains, kind="stable")[:BEGINNINGS]:
        if not 0 < gains[top] < missing.sum():
            continue
        layers = _completed([int(top)], drawn, right, missing)
        if layers:
            yield from _drawn(layers, cells)


def _completed(layers: list[int], drawn: np.ndarray, right: np.ndarray, missing: np.ndarray) -> list[int] | None:
    """Add layers under these while they help. None if something is still missing at the end."""
    covered = drawn[layers[0]].copy()
    while (missing & ~covered).any():
        if len(layers) == MOST_LAYERS:
            return None
        free = drawn & ~covered
        gains = np.where((free & ~right).any(1), 0, free.sum(1))
        best = int(gains.argmax())
        if not gains[best]:
            return None
        layers.append(best)
        covered |= drawn[best]
    return layers


def _drawn(layers: list[int], cells: Cells) -> Iterator[Candidate]:
    answers = []
    for grids in zip(*(cells.tests[layer] for layer in layers), strict=True):
        if len({grid.shape for grid in grids}) > 1:
            return
        made = np.zeros_like(grids[0])
        for grid in grids:
            made = np.where(made == 0, grid, made)
        answers.append(made)
    names = [" > ".join(cells.programs[layer].names) or "input" for layer in layers]
    cost = sum(cells.programs[layer].cost + 1 for layer in layers)
    yield Candidate(cost, " over ".join(names), tuple(answers))
