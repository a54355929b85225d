"""One object is chosen, or all that are alike in something: cut out, kept in its place, or removed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from trainables.tasks.arc.grids import MAX_SIDE, Grid
from trainables.tasks.arc.programs.objects import RANKS, Objects, objects
from trainables.tasks.arc.programs.primitive import Primitive

Rank = Callable[[Objects], np.ndarray]
KINDS = {"object": (8, True), "figure": (8, False), "object by sides": (4, True), "figure by sides": (4, False)}


def cut_out(grid: Grid, kind: tuple[int, bool], rank: Rank, whole: bool) -> Grid | None:
    """Return the box of the one object with the highest rank, `whole` or with the object's cells alone. None if
    several different ones are first."""
    found = objects(grid, *kind)
    if not len(found):
        return None
    ranks = rank(found)
    first = np.flatnonzero(ranks == ranks.max())
    cuts = [
        grid[found.boxes[i]] if whole else np.where(found.masks[i], grid[found.boxes[i]], np.int8(0)) for i in first
    ]
    return cuts[0] if all(np.array_equal(cuts[0], cut) for cut in cuts[1:]) else None


def kept(grid: Grid, kind: tuple[int, bool], rank: Rank, drop: bool) -> Grid | None:
    """Keep all objects with the highest rank in their places, or drop them. None if nothing changes."""
    found = objects(grid, *kind)
    if len(found) < 2:
        return None
    ranks = rank(found)
    first = ranks == ranks.max()
    if first.all():
        return None
    chosen = np.concatenate([[drop], first])[found.labels]
    return np.where(chosen != drop, grid, np.int8(0))


def in_order(grid: Grid, kind: tuple[int, bool], rank: Rank, axis: int) -> Grid | None:
    """Set the objects' boxes side by side, those of high rank first. None if their sides differ or ranks are equal."""
    found = objects(grid, *kind)
    if len(found) < 2:
        return None
    ranks = rank(found)
    cuts = [np.where(found.masks[i], grid[found.boxes[i]], np.int8(0)) for i in np.argsort(-ranks, kind="stable")]
    if len({cut.shape[1 - axis] for cut in cuts}) > 1 or sum(cut.shape[axis] for cut in cuts) > MAX_SIDE:
        return None
    return np.concatenate(cuts, axis)


def colours_in_order(grid: Grid, kind: tuple[int, bool], rank: Rank, axis: int) -> Grid | None:
    """Return a cell of each object's colour, those of high rank first."""
    found = objects(grid, *kind)
    if len(found) < 2 or len(found) > MAX_SIDE:
        return None
    cells = found.colour[np.argsort(-rank(found), kind="stable")].astype(np.int8)
    return cells[None] if axis else cells[:, None]


def counted(grid: Grid, kind: tuple[int, bool]) -> Grid | None:
    """Return a row of as many ones as there are objects."""
    number = len(objects(grid, *kind))
    return np.ones((1, number), dtype=np.int8) if 0 < number <= MAX_SIDE else None


# The ranks whose primitives are cheap, and so are put after others. All are tried on inputs.
COMMON = {
    *("largest", "smallest", "of most colours", "most speckled", "most symmetric", "of most holes", "solid", "inner"),
    *("of the rarest shape", "of the commonest shape", "of the rarest colour", "of the commonest colour"),
}


def _of(kind: str) -> list[Primitive]:
    made = []
    for name, rank in RANKS.items():
        cut, keep = partial(cut_out, kind=KINDS[kind], rank=rank), partial(kept, kind=KINDS[kind], rank=rank)
        cost = 1 if name in COMMON and "sides" not in kind else 2
        made.append(Primitive(f"cut out the {kind} {name}", partial(cut, whole=False), cost))
        made.append(Primitive(f"keep the {kind} {name}", partial(keep, drop=False), cost))
        made.append(Primitive(f"drop the {kind} {name}", partial(keep, drop=True), 2))
        if KINDS[kind][1]:
            made.append(Primitive(f"the box of the {kind} {name}", partial(cut, whole=True), cost))
    return made


PRIMITIVES: list[Primitive] = [
    *(one for kind in KINDS for one in _of(kind)),
    *(
        Primitive(
            f"{kind}s side by side along {axis}, the {name} first",
            partial(in_order, kind=KINDS[kind], rank=RANKS[name], axis=axis),
            2,
        )
        for kind in ("object", "figure")
        for axis in (0, 1)
        for name in ("largest", "smallest", "highest", "leftmost")
    ),
    *(
        Primitive(
            f"colours of objects along {axis}, the {name} first",
            partial(colours_in_order, kind=KINDS["object"], rank=RANKS[name], axis=axis),
            2,
        )
        for axis in (0, 1)
        for name in ("largest", "highest", "leftmost")
    ),
    *(Primitive(f"as many as {kind}s", partial(counted, kind=own), 2) for kind, own in KINDS.items()),
]
