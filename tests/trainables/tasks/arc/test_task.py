"""The ARC task: splits by task, two attempts, exact grids, hand-computed baselines, one clear line per bad file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.arc_files import ids, recolour, task, write, write_all_splits
from trainables.core import Example
from trainables.tasks.arc.data import TWICE, load_splits, published
from trainables.tasks.arc.files import ArcPairs
from trainables.tasks.arc.grids import as_grid, grid_text, parse_completion, submission
from trainables.tasks.arc.task import ArcTask, puzzle

RIGHT = [[[1, 2], [3, 4]], [[5, 6, 7]]]
WRONG = [[9, 9], [9, 9]]


@pytest.fixture
def two_outputs(tmp_path: Path) -> tuple[ArcTask, Example]:
    pairs = [([[0, 0], [0, 0]], RIGHT[0]), ([[0, 0, 0]], RIGHT[1])]
    arc = ArcTask(data=write_all_splits(tmp_path, task(pairs[:1], pairs)))
    return arc, arc.search()[0]


def entries(*attempts: tuple[object, object]) -> str:
    return json.dumps([{"attempt_1": first, "attempt_2": second} for first, second in attempts])


@pytest.mark.parametrize(
    ("completion", "score", "pass_at_1", "unparsed", "cells"),
    [
        (entries((RIGHT[0], WRONG), (RIGHT[1], WRONG)), 1, 1, 0, 1.0),
        (entries((WRONG, RIGHT[0]), (RIGHT[1], WRONG)), 1, 0, 0, 0.5),  # either attempt, per output
        (entries((RIGHT[0], RIGHT[0]), (WRONG, WRONG)), 0, 0, 0, 0.5),  # one of two outputs is not enough
        (entries((RIGHT[0], RIGHT[0]), ([[5, 6]], [[5], [6], [7]])), 0, 0, 0, 0.5),  # wrong sizes
        (entries(([[1, 2], [3, 0]], WRONG), (RIGHT[1], WRONG)), 0, 0, 0, 0.875),  # one cell of four is wrong
        (entries(([], []), (RIGHT[1], WRONG)), 0, 0, 0, 0.5),  # [] is "no answer", read but wrong
        (entries((RIGHT[0], WRONG)), 0, 0, 1, 0.0),  # one entry for two outputs
        (entries((RIGHT[0], WRONG), (RIGHT[1], [[5, 6, 11]])), 0, 0, 1, 0.0),  # no such colour
        ('[{"attempt_1": [[1, 2], [3, 4]]', 0, 0, 1, 0.0),
        ('[{"attempt_1": [[1, 2], [3, 4]]}, {}]', 0, 0, 1, 0.0),
        ("12\n34\n\n567", 1, 1, 0, 1.0),
        (" 12 \n34\n\n567\n", 1, 1, 0, 1.0),
        ("12\n34\n567", 0, 0, 1, 0.0),
        ("12\n34\n\n567\n\n8", 0, 0, 1, 0.0),
        ("12\n3a\n\n567", 0, 0, 1, 0.0),
        ("", 0, 0, 1, 0.0),
    ],
)
def test_scores_by_hand(two_outputs, completion, score, pass_at_1, unparsed, cells):
    arc, example = two_outputs
    assert arc.score(example, completion) == score
    expected = {"cell_accuracy": cells, "pass_at_1": pass_at_1, "unparsed": unparsed, "lenient": score}
    assert arc.details(example, completion) == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=4), min_size=1))
def test_text_and_submissions_read_back(rows):
    grids = [as_grid(each, "grid") for each in rows]
    for written in ("\n\n".join(map(grid_text, grids)), submission([(grid,) for grid in grids])):
        read = parse_completion(written, len(grids))
        assert all(np.array_equal(tries[0], grid) for tries, grid in zip(read, grids, strict=True))


def test_official_sets():
    """The published counts: 400 and 400 tasks, 112 training tasks same-size and at most 10x10; 1,000 and 120."""
    small = ArcTask()
    assert len(small.train()) + len(small.search()) == 112
    assert 24 <= len(small.search()) <= 36
    everything = ArcTask(data="arc1", same_size=False, max_side=30)
    assert len(everything.train()) + len(everything.search()) == 400 == len(everything.test())
    second = ArcTask(data="arc2", same_size=False, max_side=30)
    assert (len(second.train()) + len(second.search()), len(second.test())) == (1000, 120)
    for arc in (everything, second):
        keys = [{example.key for example in split()} for split in (arc.train, arc.search, arc.test)]
        assert not keys[0] & keys[1]
        assert not keys[2] & (keys[0] | keys[1])
    # A filter never moves a task to another split.
    assert {e.key for e in small.search()} <= {e.key for e in everything.search()}
    assert all(everything.score(example, example.answer) == 1 for example in everything.search())
    assert {example.kind for example in everything.search()} == {"same_size", "other_size"}


def test_several_sources_are_united_split_by_split(tmp_path):
    """391 training and 6 evaluation tasks are in both official sets; each counts once."""
    both = ArcTask(data="arc1+arc2", same_size=False, max_side=30)
    assert (len(both.train()) + len(both.search()), len(both.test())) == (400 + 1000 - 391, 400 + 120 - 6)
    assert {e.key for e in both.train()} & {e.key for e in both.test()}, "a task in two splits stays in both"

    mine = write_all_splits(tmp_path / "a+b", recolour())  # an existing path is one source, whatever its name
    assert len(ArcTask(data=mine).train()) == 1
    more = write(tmp_path / "more", {ids("train", 1)[0]: recolour()})
    mixed, alone = ArcTask(data=f"arc1+{more}"), ArcTask()
    assert (len(mixed.train()), mixed.test()) == (len(alone.train()) + 1, alone.test())


def test_an_evaluation_task_is_known_whichever_of_its_pairs_it_asks():
    """All 400, the test pair shown and a former demonstration asked; none is exempt by the name of the one that is."""
    splits = load_splits("arc1")
    moved = [ArcPairs(own.demonstrations[1:] + own.tests, own.demonstrations[:1]) for own in splits["test"].values()]
    assert None not in [published(key, own) for own in moved for key in ("mine", TWICE)]
    assert [key for split in ("train", "search") for key, own in splits[split].items() if published("mine", own)] == [
        TWICE
    ]
    assert published(TWICE, splits["train"][TWICE]) is None


def test_files_are_found_from_another_folder(tmp_path, monkeypatch):
    """Every trial has a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    write_all_splits(tmp_path / "mine", recolour())
    arc, both = ArcTask(data="mine"), ArcTask(data="arc1+mine")
    monkeypatch.chdir("/")
    assert (len(arc.train()), len(both.train())) == (1, 1 + len(ArcTask().train()))


@pytest.mark.parametrize(
    ("data", "part"), [("arc1+arc9", "arc9"), ("nowhere/mine+arc2", "nowhere/mine"), ("arc1+", "")]
)
def test_the_source_that_is_wrong_is_named(data, part):
    with pytest.raises(ValueError, match=f"^data='{part}' is not known; use .* or several with '\\+'$") as raised:
        ArcTask(data=data).search()
    assert "\n" not in str(raised.value)


def test_same_fields_same_examples():
    first, again, other = (ArcTask(limit_search=8, seed=seed).search() for seed in (0, 0, 1))
    assert first == again
    assert {e.key for e in first} != {e.key for e in other}


def test_baselines_by_hand(tmp_path):
    """Four search tasks: the input again, all black, all of the commonest colour (3), and none of these."""
    black, threes, mixed = [[0, 0]], [[3, 3]], [[1, 3]]
    demonstration = [([[1, 1]], [[3, 3]])]
    answers = [mixed, black, threes, [[4, 5]]]
    tasks = {key: task(demonstration, [(mixed, answer)]) for key, answer in zip(ids("search", 4), answers, strict=True)}
    arc = ArcTask(data=write(tmp_path, tasks))
    assert arc.baselines() == {"copy": 0.25, "copy.same_size": 0.25, "constant": 0.5, "constant.same_size": 0.5}
    assert arc.chance == 0.0


def test_prompt_shows_demonstrations_and_no_test_output(tmp_path):
    arc = ArcTask(data=write_all_splits(tmp_path, task([([[1, 2]], [[2, 1]])], [([[3, 4]], [[4, 3]])])))
    example = arc.search()[0]
    assert example.prompt == "Input 1:\n12\nOutput 1:\n21\n\nTest input 1:\n34\n\nTest outputs:\n"
    assert example.answer == "43"
    assert arc.max_new_tokens == 5  # two cells, turned two line ends, a stop
    assert example.difficulty == pytest.approx(2 / 900)


def test_a_puzzle_holds_no_test_output(tmp_path):
    example = ArcTask(data=write_all_splits(tmp_path, recolour())).search()[0]
    assert set(vars(puzzle(example))) == {"demonstrations", "test_inputs"}
    with pytest.raises(ValueError, match="read-only"):
        puzzle(example).test_inputs[0][0, 0] = 1


def test_one_file_with_many_tasks(tmp_path):
    file = tmp_path / "tasks.json"
    keys = [ids(split, 1)[0] for split in ("train", "search", "test")]
    file.write_text(json.dumps({key: recolour() for key in keys}))
    arc = ArcTask(data=str(file))
    assert [split()[0].key for split in (arc.train, arc.search, arc.test)] == keys


def test_tasks_without_test_outputs_are_asked_and_never_scored(tmp_path):
    """A task with one of two outputs missing counts as unanswered, and no filter leaves it out."""
    large = task([([[1] * 20], [[2] * 20])], [([[3] * 20], [[4]]), ([[5]], [[6]])])
    del large["test"][1]["output"]
    file = tmp_path / "challenges.json"
    file.write_text(json.dumps({key: large for split in ("train", "search", "test") for key in ids(split, 2)}))
    with pytest.raises(ValueError, match=r"^the search split is empty, and 6 tasks have no test outputs; .*'arc1\+/"):
        ArcTask(data=str(file)).search()
    mixed, alone = ArcTask(data=f"arc1+{file}", limit_search=3), ArcTask(limit_search=3)
    for split in ("train", "search", "test"):
        assert mixed.split(split) == alone.split(split)
    assert mixed.max_new_tokens == alone.max_new_tokens
    assert not alone.unanswered()
    assert len(mixed.unanswered()) == 6
    for example in mixed.unanswered():
        assert [grid.tolist() for grid in puzzle(example).test_inputs] == [[[3] * 20], [[5]]]
        assert "Test input 2:\n5\n" in example.prompt
        assert example.answer == ""
        assert mixed.score(example, entries(([[4]], [[4]]), ([[6]], [[6]]))) == 0.0


GOOD = recolour()
BAD_FILES = [
    ('{"train": [', r"bad\.json: not valid JSON at line 1, column 12 .*; repair or remove the file"),
    ("[1]", r"bad\.json: holds a list; write one task or an object of task id -> task"),
    ('{"train": [], "test": []}', r"bad\.json: key 'train' is missing or empty; a task has non-empty lists"),
    (json.dumps({"abc": {"train": GOOD["train"]}}), r"bad\.json: task 'abc': key 'test' is missing or empty"),
    (json.dumps({**GOOD, "train": [{"input": [[1]]}]}), r"bad\.json: train\[0\] has no 'output'; every pair needs"),
    (json.dumps({**GOOD, "test": [{"output": [[1]]}]}), r"bad\.json: test\[0\] has no 'input'; every pair needs"),
    (json.dumps({**GOOD, "test": [[1]]}), r"bad\.json: test\[0\] has no 'input'; every pair needs"),
    (
        json.dumps(task([([[1]], [[1, 2], [3]])], [([[1]], [[1]])])),
        r"train\[0\]\.output: row 1 has 1 cells, row 0 has 2",
    ),
    (json.dumps(task([([[10]], [[1]])], [([[1]], [[1]])])), r"train\[0\]\.input: row 0 holds 10; a cell is an integer"),
    (json.dumps(task([([], [[1]])], [([[1]], [[1]])])), r"train\[0\]\.input is not a grid; write a non-empty list"),
    (json.dumps(task([([[0] * 31], [[1]])], [([[1]], [[1]])])), r"input is 1x31; both sides must lie between 1 and 30"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES)
def test_bad_files_name_file_key_and_remedy(tmp_path, content, message):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        ArcTask(data=str(tmp_path)).search()
    assert "\n" not in str(raised.value)


def test_an_id_that_is_a_path_is_refused(tmp_path):
    """Learners name files after tasks; this one would be written two folders up."""
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps({"../../up": recolour()}))
    with pytest.raises(ValueError, match=r"task id '../../up' cannot name a file; use letters, digits"):
        ArcTask(data=str(file)).search()


def test_other_bad_input(tmp_path):
    with pytest.raises(ValueError, match="data='arc3' is not known; use 'arc1', 'arc2', or an existing JSON file"):
        ArcTask(data="arc3").search()
    with pytest.raises(ValueError, match=r"has no \.json file; name the folder that holds <task id>\.json files"):
        ArcTask(data=str(tmp_path)).search()
    with pytest.raises(ValueError, match=r"max_side=31 is outside 1 to 30"):
        ArcTask(max_side=31)
    with pytest.raises(ValueError, match="limit_search=0 is below 1; give a number of tasks or None"):
        ArcTask(limit_search=0)
    write_all_splits(tmp_path, recolour())
    with pytest.raises(ValueError, match=r"the search split is empty after .*max_side=2; raise max_side"):
        ArcTask(data=str(tmp_path), max_side=2).search()
    (tmp_path / "twice.json").write_text(json.dumps({ids("train", 1)[0]: recolour()}))
    with pytest.raises(ValueError, match="is there twice in data="):
        ArcTask(data=str(tmp_path)).search()
