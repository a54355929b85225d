"""lora_ttt: what a task's rows and prompts show, and what becomes of its completions."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.arc_files import task
from tests.support.grids_kit import INPUTS, arc, grid_base, task_learner
from trainables.core import Completion
from trainables.learners.arc.answers import counted, two_best
from trainables.learners.arc.lora_ttt.text import GridTokenizer, most_tokens, written
from trainables.models.loading import Base
from trainables.models.tokenization import decode
from trainables.tasks.arc.task import ArcTask, Puzzle, puzzle
from trainables.tasks.arc.views import TURNS, View


@pytest.fixture(scope="module")
def base() -> Base:
    return grid_base()


def written_answer(base: Base, text: str) -> list[int]:
    return base.tokenizer(text, add_special_tokens=False).input_ids


def test_rows_leave_one_demonstration_out_and_know_no_test_output(base):
    """In the task, 9 is in the test output alone; the four demonstrations differ in input and in output."""
    pairs = [(rows, np.flipud(rows).tolist()) for rows in INPUTS]
    data = task(pairs, [([[3, 3], [1, 0]], [[9, 9], [9, 9]])])
    demonstrations = tuple((np.array(p["input"], np.int8), np.array(p["output"], np.int8)) for p in data["train"])
    own = task_learner(base, Puzzle(demonstrations, (np.array([[3, 3], [1, 0]], np.int8),)), turns=False)
    held_out, orders = set(), set()
    for row in [row for _ in range(40) for row in own.next_rows()]:
        start = row.labels.index(True)
        assert all(row.labels[start:])
        assert row.tokens[-1] == base.eos
        question, answer = decode(base.tokenizer, [*row.tokens[:start]]), decode(base.tokenizer, [*row.tokens[start:]])
        blocks = [block.split("\nO\n") for block in question.removeprefix("I\n").split("\nI\n")]
        blocks[-1][0] = blocks[-1][0].removesuffix("\nO\n")
        shown = [tuple(block) for block in blocks[:-1]] + [(blocks[-1][0], answer)]
        all_pairs = {tuple("\n".join("".join(map(str, r)) for r in grid) for grid in pair) for pair in pairs}
        assert set(shown) == all_pairs
        assert len(shown) == 4
        assert "9" not in question + answer
        held_out.add(shown[-1])
        orders.add(tuple(shown[:-1]))
    assert len(held_out) == 4
    assert len(orders) > 8


def test_rows_are_seen_under_turns_and_colours(base):
    source, target = np.array([[0, 1, 2]], np.int8), np.array([[2, 1, 0]], np.int8)
    own = task_learner(base, Puzzle(((source, target),), (source,)), permute_colours=True)
    rows = {own.row(k) for k in range(60)}
    texts = {decode(base.tokenizer, [*row.tokens]) for row in rows}
    assert any(text.count("\n") == 3 for text in texts)  # I, a row of three, O, its answer
    assert any(text.count("\n") == 7 for text in texts)  # a column of three instead
    assert len(texts) > 40  # 60 draws of 1,440 views
    candidates = own.candidate_rows(0, target)
    assert len(candidates) == len(own.views)
    for row in [*rows, *candidates]:
        marks = decode(base.tokenizer, [*row.tokens]).replace("\n", "").split("O")
        assert marks[-2][-3:] == marks[-1][::-1]  # the rule holds in all of them
    again = task_learner(base, Puzzle(((source, target),), (source,)), permute_colours=True)
    again.load({"draws": 6})
    assert again.next_rows() == [own.row(6), own.row(7)]


def test_views_show_the_task_as_it_is_and_then_every_turn(base, tmp_path):
    own = task_learner(base, puzzle(arc(tmp_path).search()[0]), votes=8, permute_colours=True)
    assert own.views[0] == View()
    assert {view.turn for view in own.views} == set(range(TURNS))
    assert len({view.colours for view in own.views}) == 8
    assert len(own.prompts()) == 8
    assert decode(base.tokenizer, own.prompts()[0]).rstrip() == written(
        puzzle(arc(tmp_path).search()[0]).demonstrations, np.array(INPUTS[3])
    )


def test_judging_undoes_views_and_drops_what_is_no_answer(base):
    """Two test inputs, three views (as it is, one and two quarter turns to the left), completions written by hand."""
    grid = np.array([[0, 1], [2, 3]], np.int8)
    own = task_learner(base, Puzzle(((grid, grid),), (grid, grid)), votes=3)
    assert [view.turn for view in own.views] == [0, 1, 2]
    texts = ["01\n23", "5", "13\n02", "000000\n", "32\n10", "4\n44"]
    said = [written_answer(base, text) for text in texts]
    found = own.found([Completion(tokens, True) for tokens in said])
    assert [each.tolist() for each in found[0]] == [[[0, 1], [2, 3]]] * 3  # views 0, 1 and 2, turned back
    assert found[1][0].tolist() == [[5]]
    assert found[1][1:] == [None, None]  # larger than any grid that is seen; rows of two lengths
    cut = own.found([Completion(tokens, place > 0) for place, tokens in enumerate(said)])
    assert cut[0][0] is None
    assert cut[0][1].tolist() == [[0, 1], [2, 3]]


def test_a_grid_larger_than_any_that_is_seen_is_an_answer_where_a_lens_says_so(base):
    """Twice as wide: demonstrations show up to 4 cells in a row, the test output has 6. Nothing says that it has 8."""
    pairs = [(np.array([row], np.int8), np.array([row * 2], np.int8)) for row in ([1, 2], [3, 0])]
    own = task_learner(base, Puzzle(tuple(pairs), (np.array([[5, 6, 7]], np.int8),)), votes=2)
    assert own.answer_tokens == 2 + 6 + 6  # cells, line ends where it is upright, one to begin, one to stop
    said = [written_answer(base, text) for text in ("567567", "5\n6\n7\n5\n6\n7")]
    assert [view.turn for view in own.views] == [0, 1]
    (found,) = own.found([Completion(tokens, True) for tokens in said])
    assert [grid.tolist() for grid in found] == [[[5, 6, 7, 5, 6, 7]], [[7, 6, 5, 7, 6, 5]]]
    (found,) = own.found([Completion(written_answer(base, "56785678"), True)] * 2)
    assert found == [None, None]


def test_official_tasks_that_no_room_is_left_for():
    """Outputs larger than any grid that is seen, of sizes that no lens gives: they can never be answered."""
    task = ArcTask(data="arc1", same_size=False, max_side=30)
    tokenizer = GridTokenizer(grid_base().tokenizer, 8192)
    short = {
        example.key
        for example in (*task.train(), *task.search(), *task.test())
        if tokenizer.answer_tokens(puzzle(example))
        < 2 + max(most_tokens(target.shape) for _, target in example.data.tests)
    }
    assert short == {
        *("feca6190", "91413438", "9af7a82c", "bbc9ae5d", "eb281b96"),
        *("2697da3f", "c1990cce", "ccd554ac", "ad7e01d0", "d4b1c2b1"),
    }  # fmt: skip


def test_votes_by_hand():
    a, b, c = (np.full((1, 2), colour, np.int8) for colour in (1, 2, 3))
    column = a.T
    grids, counts = counted([None, a, b, column, b, c, None, a.copy()])
    assert [grid.tolist() for grid in grids] == [[[1, 1]], [[2, 2]], [[1], [1]], [[3, 3]]]
    assert counts == [2, 2, 1, 1]
    assert [grid.tolist() for grid in two_best(grids, counts)] == [[[1, 1]], [[2, 2]]]  # a tie: the earlier
    assert [grid.tolist() for grid in two_best(grids, [-9.0, -2.0, -5.0, -1.0])] == [[[3, 3]], [[2, 2]]]
    assert [grid.tolist() for grid in two_best([a], [1.0])] == [[[1, 1]]]
    assert [grid.tolist() for grid in two_best([], [])] == [[]]


@pytest.mark.parametrize(("limit", "shown"), [(30, 0), (42, 1), (60, 2), (200, 3)])
def test_demonstrations_are_left_out_until_a_row_fits(base, tmp_path, limit, shown):
    """By hand: a grid is 5 tokens; the question is 10 with its letters and line ends, a demonstration 16; an answer may
    take 8: two rows of three characters, one to stop, one to begin."""
    own = task_learner(base, puzzle(arc(tmp_path).search()[0]), limit)
    assert own.answer_tokens == 8
    assert [len(tokens) for tokens in own.prompts()] == [10 + 16 * shown] * 3
    assert {len(row.tokens) for _ in range(20) for row in own.next_rows()} == {10 + 16 * min(shown, 2) + 6}
