"""Views of an ARC task: turned, mirrored, recoloured, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.arc_files import recolour, write_all_splits
from trainables.tasks.arc.task import ArcTask, puzzle
from trainables.tasks.arc.views import TURNS, View, draw_view, turn, turn_back, varying_colours


@pytest.fixture
def planted(tmp_path: Path) -> ArcTask:
    return ArcTask(data=write_all_splits(tmp_path, recolour(), search=2))


def test_views_turn_back():
    grid = np.arange(6).reshape(2, 3)
    views = [turn(grid, view) for view in range(8)]
    assert all(np.array_equal(turn_back(seen, view), grid) for view, seen in enumerate(views))
    assert len({(seen.shape, seen.tobytes()) for seen in views}) == 8
    assert np.array_equal(views[1], [[2, 5], [1, 4], [0, 3]])  # a quarter turn to the left


def test_a_view_of_a_task_can_be_undone(planted):
    """By hand: a quarter turn to the left, 1 and 2 exchanged; then that drawn views come back, all turns among them."""
    view = View(1, (0, 2, 1, 3, 4, 5, 6, 7, 8, 9))
    assert view.apply(np.array([[1, 2], [0, 3]], dtype=np.int8)).tolist() == [[1, 3], [2, 0]]
    seen = puzzle(planted.search()[0])
    rng = np.random.default_rng(0)
    views = [draw_view(rng, varying_colours(seen)) for _ in range(60)]
    assert {view.turn for view in views} == set(range(TURNS))
    for view in views:
        assert view.colours[:3] == (0, 1, 2)
        assert sorted(view.colours) == list(range(10))
        there = view.of(seen)
        grids = [*there.test_inputs, *(grid for pair in there.demonstrations for grid in pair)]
        originals = [*seen.test_inputs, *(grid for pair in seen.demonstrations for grid in pair)]
        assert all(np.array_equal(view.undo(a), b) for a, b in zip(grids, originals, strict=True))
    assert len({view.colours for view in views}) > 10


def test_only_colours_some_demonstration_lacks_are_renamed(planted):
    """In the planted task 0, 1 and 2 are in every demonstration; 3 is not, nor are the unused ones."""
    assert varying_colours(puzzle(planted.search()[0])).tolist() == [3, 4, 5, 6, 7, 8, 9]
