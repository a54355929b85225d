"""Views of an ARC task: it is turned, mirrored or recoloured, which keeps its rule; and the inverse transformations.

Pure functions on numpy grids. Test outputs never enter: `Puzzle` has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainables.tasks.arc.grids import COLOURS, Grid
from trainables.tasks.arc.task import Puzzle

TURNS = 8  # the symmetries of the square


def turn(grid: np.ndarray, view: int) -> np.ndarray:
    """Apply one of the eight symmetries of the square: `view` % 4 quarter turns, then a transposition if `view` >=
    4."""
    turned = np.rot90(grid, view % 4)
    return turned.T if view >= 4 else turned


def turn_back(grid: np.ndarray, view: int) -> np.ndarray:
    return np.rot90(grid.T if view >= 4 else grid, -(view % 4))


def varying_colours(puzzle: Puzzle) -> np.ndarray:
    """Return the colours that some demonstration lacks. A colour in all of them may have a fixed role, so it is
    kept."""
    present = [set(np.unique(source)) | set(np.unique(target)) for source, target in puzzle.demonstrations]
    return np.array(
        [colour for colour in range(COLOURS) if not all(colour in pair for pair in present)], dtype=np.int64
    )


@dataclass(frozen=True)
class View:
    """A turn (0 to 7) and a permutation of the ten colours: `colours[c]` is what c becomes."""

    turn: int = 0
    colours: tuple[int, ...] = tuple(range(COLOURS))

    def apply(self, grid: Grid) -> Grid:
        return np.array(self.colours, dtype=np.int8)[turn(grid, self.turn)]

    def undo(self, grid: Grid) -> Grid:
        return np.argsort(self.colours).astype(np.int8)[turn_back(grid, self.turn)]

    def of(self, puzzle: Puzzle) -> Puzzle:
        """Return the whole task under this view."""
        pairs = tuple((self.apply(source), self.apply(target)) for source, target in puzzle.demonstrations)
        return Puzzle(pairs, tuple(self.apply(source) for source in puzzle.test_inputs))


def draw_view(rng: np.random.Generator, renamed: np.ndarray, turns: bool = True) -> View:
    """Draw a random view: a turn (if `turns`), and a permutation of the colours `renamed`."""
    colours = np.arange(COLOURS)
    colours[renamed] = rng.permutation(renamed)
    return View(int(rng.integers(TURNS)) if turns else 0, tuple(colours.tolist()))
