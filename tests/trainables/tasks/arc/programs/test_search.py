"""The search: it finds planted compositions, drops what gives the same grids, and keeps its limits."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from tests.support.program_grids import grid, task
from trainables.tasks.arc.programs.search import Limits, Search
from trainables.tasks.arc.task import Puzzle

SOURCES = ("100 010 022", "030 000 110", "000 120 300", "004 000 101")


def planted(change, sources=SOURCES) -> Puzzle:
    """A task of which this function makes all outputs."""
    grids = [grid(one) for one in sources]
    return Puzzle(tuple((one, change(one)) for one in grids[:-1]), tuple(grids[-1:]))


def exact(search: Search) -> list:
    return [
        plane
        for plane in search.planes
        if all(np.array_equal(a, b) for a, b in zip(plane.grids, search.targets, strict=False))
    ]


def test_a_planted_composition_is_found():
    """The grid is turned, then set four times into mirrors: no single primitive does that."""

    def change(one):
        wide = np.hstack([one.T, one.T[:, ::-1]])
        return np.vstack([wide, wide[::-1]])

    search = Search(planted(change), Limits())
    search.run()
    found = exact(search)
    assert [len(one.names) for one in found] == [2] * len(found)
    assert found
    assert np.array_equal(found[0].grids[-1], change(grid(SOURCES[-1])))


def test_a_single_primitive_comes_before_longer_programs():
    search = Search(planted(np.fliplr), Limits())
    search.run()
    assert len(exact(search)[0].names) == 1


def test_what_gives_the_same_grids_is_kept_once():
    search = Search(planted(np.fliplr), Limits(grids=6000))
    planes = search.run()
    assert len(planes) > 50
    for a, b in combinations(planes, 2):
        assert any(x.shape != y.shape or (x != y).any() for x, y in zip(a.grids, b.grids, strict=True)), (a, b)


def test_programs_that_differ_on_the_test_alone_are_both_kept():
    """All demonstrations are symmetric, so only the test tells a mirror from the grid as it is."""
    puzzle = task(("121", "121"), ("3003", "3003"), tests=("456",))
    found = {plane.grids[-1].tobytes() for plane in exact_after(puzzle)}
    assert {grid("456").tobytes(), grid("654").tobytes()} <= found


def exact_after(puzzle: Puzzle) -> list:
    search = Search(puzzle, Limits(grids=5000))
    search.run()
    return exact(search)


def test_limits_are_kept():
    puzzle = planted(np.fliplr)
    for most in (0, 200, 7000):
        search = Search(puzzle, Limits(grids=most))
        search.run()
        assert search.grids_asked <= most + 2 * len(search.sources) * 8  # a primitive, or ways to a size, are finished
    assert search.grids_asked >= 7000
    idle = Search(puzzle, Limits(seconds=0.0))
    idle.run()
    assert idle.grids_asked < 100


def test_the_same_task_gives_the_same_programs():
    one, other = (Search(planted(np.fliplr), Limits(grids=4000)).run() for _ in range(2))
    assert [plane.names for plane in one] == [plane.names for plane in other]
