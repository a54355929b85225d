"""Answers: exact programs, renamed colours, tables of two planes, stacks; and none where nothing fits."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.arc_files import recolour, write_all_splits
from tests.support.program_grids import grid, task
from trainables.tasks.arc.grids import parse_completion
from trainables.tasks.arc.programs.rules import Cells, learned, pairs
from trainables.tasks.arc.programs.search import Limits, Program, Search, may_explain
from trainables.tasks.arc.programs.solver import background_first, solve, submitted
from trainables.tasks.arc.programs.stacking import stacks
from trainables.tasks.arc.task import ArcTask, puzzle


def cells(targets: tuple[str, ...], *planes: tuple[str, ...]) -> Cells:
    """Planes of grids: first those of the demonstrations, then those of the tests."""
    programs = [Program((f"plane {i}",), 1, tuple(map(grid, own))) for i, own in enumerate(planes)]
    return Cells(programs, [grid(target) for target in targets])


def test_two_layers_are_stacked():
    """The rows are over the columns: neither alone is the output, and the wrong way round it is another."""
    rows, columns = ("111 000 000", "000 000 111"), ("020 020 020", "200 200 200")
    [first] = stacks(cells(("111 020 020",), columns, rows))
    assert first.name == "plane 1 over plane 0"
    assert first.answers[0].tolist() == grid("200 200 111").tolist()


def test_a_layer_that_is_wrong_somewhere_is_not_stacked():
    assert not [*stacks(cells(("110 020",), ("110 000", "111 111"), ("000 022", "222 222")))]


def test_a_table_of_two_planes():
    """Where one plane and only one draws: 1 or 2 becomes 3, and both become 0."""
    own = cells(("30 03",), ("11 00", "10"), ("02 02", "22"))
    [found] = pairs(own)
    assert found.answers[0].tolist() == grid("03").tolist()
    unseen = cells(("30 03",), ("11 00", "10"), ("02 02", "27"))
    assert not [*pairs(unseen)], "no demonstration shows what 0 and 7 become"


def test_a_table_that_contradicts_itself_is_none():
    own = cells(("12",), ("33", "33"))
    assert learned(own.shown[0], own, []) is None
    assert not may_explain(grid("33"), grid("44"), grid("12"))
    assert may_explain(grid("33"), grid("45"), grid("12")), "the input tells the two cells apart"


def test_colours_are_renamed_where_demonstrations_say_how():
    own = puzzle_of_mirrors()
    assert solve(own).attempts[0][0].tolist() == grid("02 25 00").tolist()


def puzzle_of_mirrors():
    """Left becomes right, 1 becomes 2 and 4 becomes 5."""
    return task(("10 04 11", "02 50 22"), ("41 00 10", "25 00 02"), ("11 40 44", "22 05 55"), tests=("10 41 00",))


def test_programs_see_the_background_as_0():
    eights = ("8888 8138 8888 8888", "13")
    view = background_first(task(eights, ("8888 8880", "0"), tests=("888",)))
    assert (view.colours[8], view.colours[0], view.colours[1]) == (0, 8, 1)
    for other in (("7777 7137", "13"), ("8123 8123", "13")):  # another background; no colour in more than half of it
        assert background_first(task(eights, other, tests=("888",))).colours == tuple(range(10))


def test_answers_have_the_colours_of_the_task():
    own = task(("8888 8138 8888 8888", "13"), ("8888 0088 0888", "00 08"), tests=("8888 8808 8888",))
    assert solve(own).attempts[0][0].tolist() == [[0]]


def test_demonstrations_that_contradict_each_other_have_no_answer():
    own = task(("120 000", "120 000"), ("120 000", "021 000"), tests=("340 000",))
    assert solve(own, Limits(grids=4000)).attempts == ()
    assert parse_completion(submitted(own, Limits(grids=4000)), 1)[0][0].size == 0


def test_planes_are_sorted_by_what_they_get_right():
    own = puzzle_of_mirrors()
    targets = [target for _, target in own.demonstrations]

    def shares(most: int) -> list[float]:
        planes = solve(own, Limits(grids=5000), planes=most).planes
        assert all(one.grids[0].shape == (3, 2) for one in planes)
        return [np.mean([np.mean(a == b) for a, b in zip(one.grids, targets, strict=False)]) for one in planes]

    every = shares(10_000)
    assert every == sorted(every, reverse=True)
    assert every[0] > every[-1]
    assert shares(5) == every[:5]


@pytest.mark.parametrize("data", ["arc1", "arc2"])
def test_official_sets_are_answered_alike(data):
    """Two attempts at most for every test input, and each agrees with all demonstrations by its search."""
    asked = ArcTask(data=data, limit_search=3).search()
    for example in asked:
        own = puzzle(example)
        done = solve(own, Limits(grids=3000))
        assert len(done.attempts) <= 2
        assert all(len(attempt) == len(own.test_inputs) for attempt in done.attempts)
        assert parse_completion(submitted(own, Limits(grids=3000)), len(own.test_inputs)) is not None
    assert sum(len(solve(puzzle(example), Limits(grids=3000)).attempts) > 0 for example in asked) > 0


def test_a_planted_task_scores(tmp_path):
    arc = ArcTask(data=write_all_splits(tmp_path, recolour()))
    [example] = arc.test()
    assert arc.score(example, submitted(puzzle(example))) == 1.0


def test_a_search_of_nothing_fits_nothing():
    search = Search(task(("1", "23"), ("2", "4 5"), tests=("3",)), Limits(grids=0))
    assert search.run() == []
