"""Lenses: fixed transformations of an input grid that predict the output's size.

A per-cell network answers on a canvas as large as the output. It reads the input under one or more lenses: unchanged,
mirrored, tiled, enlarged, cut into parts, or cropped to an object. A lens *fits* a task if it gives the size of every
demonstration's output; it then predicts the size of the test outputs, too. Test outputs never enter: a lens is a
function of one input grid, and the demonstrations of a `Puzzle` decide which lenses fit. A task that is recoloured or
turned as a whole has the same lenses, except for ties: `test_lenses.py` names the official tasks with others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import product

import numpy as np

from trainables.learners.arc import pieces
from trainables.learners.arc.pieces import RANKS
from trainables.tasks.arc.grids import COLOURS, Grid
from trainables.tasks.arc.task import Puzzle
from trainables.tasks.arc.views import TURNS, turn

Lens = Callable[[Grid], Grid | None]  # None: this grid has no such part
SizePairs = list[tuple[tuple[int, ...], tuple[int, ...]]]  # the sizes of each demonstration's input and output
MOST_PARTS = 9  # parts or tiles; ARC's rules combine no more


def candidates(puzzle: Puzzle) -> Iterator[tuple[str, Lens]]:
    """Yield names and lenses that may fit this task, the simplest first."""
    for view in range(TURNS):
        yield f"turn {view}", partial(turn, view=view)
    sizes = [(source.shape, target.shape) for source, target in puzzle.demonstrations]
    empty = background(puzzle)
    yield from _multiples(puzzle, sizes, empty)
    yield from _parts(sizes, empty)
    yield from _crops(puzzle, sizes, empty)


def _multiples(puzzle: Puzzle, sizes: SizePairs, empty: int) -> Iterator[tuple[str, Lens]]:
    """Yield lenses for outputs that are whole multiples of inputs (tiles, enlargements, mosaics) or framed inputs."""
    ratios = {(Fraction(t[0], s[0]), Fraction(t[1], s[1])) for s, t in sizes}
    if len(ratios) == 1:
        down, across = ratios.pop()
        if down.denominator == across.denominator == 1 and down * across > 1:
            times = (int(down), int(across))
            yield f"mosaic {times}", mosaic(puzzle, times)
            yield f"tile {times}", partial(pieces.tile, times=times)
            yield f"enlarge {times}", partial(pieces.enlarge, times=times)
    for name, count in (("colours", pieces.count_colours), ("cells", pieces.count_cells)):
        yield f"enlarge by {name}", partial(pieces.by_count, how=pieces.enlarge, count=partial(count, empty=empty))
        yield f"tile by {name}", partial(pieces.by_count, how=pieces.tile, count=partial(count, empty=empty))
    margins = {(t[0] - s[0], t[1] - s[1]) for s, t in sizes}
    if len(margins) == 1:
        high, wide = margins.pop()
        if high >= 0 and wide >= 0 and high % 2 == wide % 2 == 0:
            around = ((high // 2,) * 2, (wide // 2,) * 2)
            yield f"frame {(high, wide)}", partial(np.pad, pad_width=around, constant_values=empty)


def _parts(sizes: SizePairs, empty: int) -> Iterator[tuple[str, Lens]]:
    """Yield lenses for inputs that are several grids side by side, with or without lines between, or a grid of
    blocks."""
    for line in (0, 1):
        down, across = (
            [k for k in range(1, MOST_PARTS + 1) if all(s[axis] == k * t[axis] + line * (k - 1) for s, t in sizes)]
            for axis in (0, 1)
        )
        for times in product(down, across):
            if 1 < times[0] * times[1] <= MOST_PARTS:
                for place in np.ndindex(*times):
                    yield (
                        f"part {place} of {times}, line {line}",
                        partial(pieces.part, times=times, line=line, place=place),
                    )
    for line in (0, 1):
        blocks = {pieces.block_size(s, t, line) for s, t in sizes}
        block = blocks.pop()
        if block and not blocks:
            for name, pick in (("commonest", pieces.commonest), ("drawn", partial(pieces.drawn, empty=empty))):
                yield (
                    f"{name} of blocks {block}, line {line}",
                    partial(pieces.shrink, block=block, line=line, pick=pick),
                )
    for name, keep in (("repeats", pieces.no_repeats), ("empty lines", partial(pieces.no_empty_lines, empty=empty))):
        yield f"without {name}", keep


def _crops(puzzle: Puzzle, sizes: SizePairs, empty: int) -> Iterator[tuple[str, Lens]]:
    """Yield lenses for outputs that are cut out of inputs: at a corner, around a colour, around an object."""
    targets = {t for _, t in sizes}
    if len(targets) == 1:
        height, width = targets.pop()
        for down, right in product((False, True), repeat=2):
            yield f"corner {down, right}", partial(pieces.corner, height=height, width=width, down=down, right=right)
    for margin in (0, -1, 1):
        yield f"box of all, margin {margin}", partial(pieces.box_of, which=lambda grid: grid != empty, margin=margin)
        yield f"box of the rarest, margin {margin}", partial(pieces.box_of, which=_rarest_cells, margin=margin)
        for colour in range(COLOURS):
            yield (
                f"box of {colour}, margin {margin}",
                partial(pieces.box_of, which=partial(np.equal, colour), margin=margin),
            )
    for kind, alike in (("one colour", True), ("any", False)):
        # Ranks are costly; none can fit if some demonstration has no object of the output's size.
        if all(target.shape in pieces.object_sizes(source, empty, alike) for source, target in puzzle.demonstrations):
            for name, rank in RANKS.items():
                yield f"object of {kind}: {name}", partial(pieces.chosen_object, empty=empty, alike=alike, rank=rank)


def _rarest_cells(grid: Grid) -> np.ndarray:
    return grid == pieces.rarest(grid)


def mosaic(puzzle: Puzzle, times: tuple[int, int]) -> Lens:
    """Return a lens that tiles the input, each tile in the turn that agrees best with the demonstrations' outputs."""
    choice = {}
    for place in np.ndindex(*times):
        agreement = np.zeros(TURNS)
        for source, target in puzzle.demonstrations:
            tile = pieces.part(target, times, 0, place)
            for view in range(TURNS):
                seen = turn(source, view)
                agreement[view] += np.mean(seen == tile) if seen.shape == source.shape else -1
        choice[place] = int(agreement.argmax())

    def assemble(grid: Grid) -> Grid | None:
        tiles = [[turn(grid, choice[i, j]) for j in range(times[1])] for i in range(times[0])]
        return np.block(tiles) if all(t.shape == grid.shape for row in tiles for t in row) else None

    return assemble


def background(puzzle: Puzzle) -> int:
    """Return the commonest colour of all inputs."""
    return pieces.commonest(np.concatenate([source.ravel() for source, _ in puzzle.demonstrations]))
