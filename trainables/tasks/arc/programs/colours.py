"""Colours are kept, removed, exchanged or counted; where cells are does not matter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from trainables.tasks.arc.grids import COLOURS, MAX_SIDE, Grid
from trainables.tasks.arc.programs.primitive import Primitive, commonest, counts, named, rarest

Pick = Callable[[Grid], int]


def only(grid: Grid, pick: Pick) -> Grid | None:
    """Keep one colour alone."""
    colour = pick(grid)
    return np.where(grid == colour, grid, np.int8(0)) if colour and (grid == colour).any() else None


def without(grid: Grid, pick: Pick) -> Grid | None:
    """Remove one colour."""
    colour = pick(grid)
    return np.where(grid == colour, np.int8(0), grid) if colour and (grid == colour).any() else None


def painted(grid: Grid, pick: Pick) -> Grid | None:
    """Paint everything that is drawn in one of its colours."""
    colour = pick(grid)
    return np.where(grid > 0, np.int8(colour), grid) if colour else None


def full(grid: Grid, pick: Pick) -> Grid | None:
    """Return a grid of one colour."""
    colour = pick(grid)
    return np.full_like(grid, colour) if colour else None


def second(grid: Grid) -> int:
    """Return the second commonest colour, or 0."""
    found = counts(grid)
    order = np.argsort(-found, kind="stable")
    return int(order[1]) if found[order[1]] else 0


def inverted(grid: Grid) -> Grid | None:
    """Exchange the background and the one colour of a grid."""
    colours = np.flatnonzero(counts(grid))
    return np.where(grid == 0, np.int8(colours[0]), np.int8(0)) if len(colours) == 1 else None


def exchanged(grid: Grid) -> Grid | None:
    """Exchange the two colours of a grid."""
    colours = np.flatnonzero(counts(grid))
    if len(colours) != 2:
        return None
    a, b = colours.astype(np.int8)
    return np.where(grid == a, b, np.where(grid == b, a, grid))


def ranked(grid: Grid) -> Grid:
    """Rename colours by how common they are: 1 is the commonest."""
    found = counts(grid)
    order = [c for c in np.argsort(-found, kind="stable") if found[c]]
    names = np.zeros(COLOURS, dtype=np.int8)
    names[order] = np.arange(1, len(order) + 1)
    return names[grid]


def by_frequency(grid: Grid, reverse: bool) -> Grid | None:
    """Return a column of the colours, the commonest first."""
    found = counts(grid)
    order = [c for c in np.argsort(-found, kind="stable") if found[c]]
    return np.array(order[::-1] if reverse else order, dtype=np.int8)[:, None] if order else None


def bars(grid: Grid) -> Grid | None:
    """Return a row for each colour, the commonest first, as long as it has cells."""
    found = counts(grid)
    order = [c for c in np.argsort(-found, kind="stable") if found[c]]
    if not order or found.max() > MAX_SIDE:
        return None
    wide = np.arange(found.max())[None] < found[order][:, None]
    return np.where(wide, np.array(order)[:, None], 0).astype(np.int8)


def in_a_row(grid: Grid) -> Grid | None:
    """Return all drawn cells in a row, in reading order."""
    drawn = grid[grid > 0]
    return drawn[None] if 0 < drawn.size <= MAX_SIDE else None


def one_cell(grid: Grid, pick: Pick) -> Grid | None:
    colour = pick(grid)
    return np.array([[colour]], dtype=np.int8) if colour else None


def always(colour: int) -> Pick:
    """Return a choice of this colour, whatever the grid."""
    return lambda grid: colour


PICKS: dict[str, Pick] = {"the commonest": commonest, "the rarest": rarest, "the second": second}

PRIMITIVES: list[Primitive] = [
    *(Primitive(f"only {c}", partial(only, pick=always(c))) for c in range(1, COLOURS)),
    *(Primitive(f"without {c}", partial(without, pick=always(c))) for c in range(1, COLOURS)),
    *(
        Primitive(f"{how.__name__} {name}", partial(how, pick=pick))
        for how in (only, without, painted)
        for name, pick in PICKS.items()
    ),
    *(Primitive(f"full of {name}", partial(full, pick=pick), 2) for name, pick in PICKS.items()),
    *(Primitive(f"a cell of {name}", partial(one_cell, pick=pick), 2) for name, pick in PICKS.items()),
    *named(inverted=inverted, exchanged=exchanged, ranked=ranked, bars=bars, in_a_row=in_a_row),
    *named(by_frequency=partial(by_frequency, reverse=False), by_rarity=partial(by_frequency, reverse=True)),
]
