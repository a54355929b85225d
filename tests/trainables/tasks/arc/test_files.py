"""ARC tasks in the layouts in which they are published: repositories, Kaggle, and what programs leave beside them."""

import json
import shutil

import pytest

from tests.support.arc_files import ids, recolour, task, write, write_all_splits
from trainables.tasks.arc.data import load_splits
from trainables.tasks.arc.files import load_files
from trainables.tasks.arc.task import ArcTask

KEYS = [ids(split, 1)[0] for split in ("train", "search", "test")]
UNANSWERED = {"train": recolour()["train"], "test": [{"input": recolour()["test"][0]["input"]}]}
SOLUTION = [recolour()["test"][0]["output"]]


def keys(data):
    return {split: {*tasks} for split, tasks in load_splits(str(data)).items() if tasks}


def kaggle(folder, **parts):
    """The files of a competition; of each part, the ids of its tasks."""
    folder.mkdir()
    for part, own in parts.items():
        (folder / f"arc-agi_{part}_challenges.json").write_text(json.dumps(dict.fromkeys(own, UNANSWERED)))
        if part != "test":
            (folder / f"arc-agi_{part}_solutions.json").write_text(json.dumps(dict.fromkeys(own, SOLUTION)))
    attempts = {"attempt_1": [[0]], "attempt_2": [[0]]}
    (folder / "sample_submission.json").write_text(json.dumps({KEYS[0]: [attempts]}))
    return folder


def test_a_competition_has_its_splits_and_solutions_in_files_of_their_own(tmp_path):
    folder = kaggle(tmp_path / "k", training=KEYS, evaluation=["e1", "e2"], test=[KEYS[0], "t1"])
    assert keys(folder) == {
        "train": {KEYS[0], KEYS[2]}, "search": {KEYS[1]}, "test": {"e1", "e2"}, "unanswered": {KEYS[0], "t1"},
    }  # fmt: skip
    arc = ArcTask(data=str(folder))
    assert arc.train()[0].answer == ArcTask(data=write_all_splits(tmp_path / "plain", recolour())).train()[0].answer
    assert arc.describe(len) == [
        "left out: sample_submission.json, which holds answers for a submission",
        "joined: arc-agi_evaluation_challenges.json and arc-agi_evaluation_solutions.json, 2 of 2 tasks",
        "joined: arc-agi_training_challenges.json and arc-agi_training_solutions.json, 3 of 3 tasks",
        "without test outputs: 2 tasks, which only a submission answers",
    ]


def test_a_file_of_challenges_takes_the_solutions_beside_it(tmp_path):
    folder = kaggle(tmp_path / "k", training=KEYS, test=["t1"])
    file = folder / "arc-agi_training_challenges.json"
    assert keys(file) == {"train": {KEYS[0]}, "search": {KEYS[1]}, "test": {KEYS[2]}}
    assert keys(folder / "arc-agi_test_challenges.json") == {"unanswered": {"t1"}}
    with pytest.raises(ValueError, match=r"training_solutions\.json: holds solutions; put their tasks beside it"):
        load_splits(str(folder / "arc-agi_training_solutions.json"))
    solutions = folder / "arc-agi_training_solutions.json"
    solutions.write_text(json.dumps({KEYS[0]: SOLUTION}))
    assert keys(file) == {"train": {KEYS[0]}, "unanswered": {*KEYS[1:]}}, "one without a solution is only answered"
    for wrong, told in (
        ({"x": SOLUTION}, r"solutions\.json: task 'x' is not in arc-agi_training_challenges\.json"),
        ({KEYS[0]: SOLUTION * 2}, rf"task '{KEYS[0]}' has 2 outputs for 1 test inputs; give one for each"),
        ({KEYS[0]: [[[11]]]}, rf"task '{KEYS[0]}'\[0\]: row 0 holds 11"),
    ):
        solutions.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=told) as error:
            load_splits(str(file))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", ["", "data"], ids=["the repository", "its folder"])
def test_a_repository_keeps_its_official_splits(tmp_path, given):
    repository = tmp_path / "arc"
    (repository / "data").mkdir(parents=True)
    (repository / "package.json").write_text("{}")
    write(repository / "data" / "training", dict.fromkeys(KEYS, recolour()))
    write(repository / "data" / "evaluation", {"e1": recolour()})
    assert keys(repository / given) == {"train": {KEYS[0], KEYS[2]}, "search": {KEYS[1]}, "test": {"e1"}}
    shutil.rmtree(repository / "data" / "evaluation")
    assert keys(repository / given) == {"train": {KEYS[0]}, "search": {KEYS[1]}, "test": {KEYS[2]}}, "by a hash"


def test_what_programs_leave_behind_is_no_data(tmp_path):
    folder = tmp_path / "mine"
    plain = keys(write_all_splits(folder, recolour()))
    (folder / f"._{KEYS[0]}.json").write_bytes(b"\0\5\x16\7\0\2")
    (folder / ".DS_Store").write_bytes(b"\0\0")
    write(folder / ".ipynb_checkpoints", {KEYS[0]: recolour()})
    write(folder / "__MACOSX", {KEYS[0]: recolour()})
    assert keys(folder) == plain


def test_a_byte_order_mark_is_no_fault_and_an_output_of_null_is_none(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({KEYS[0]: recolour()}).encode())
    assert keys(tmp_path / "a.json") == {"train": {KEYS[0]}}
    (tmp_path / "b.json").write_text(json.dumps({"y": task([([[1]], [[2]])], [([[1]], None)])}))
    assert keys(tmp_path / "b.json") == {"unanswered": {"y"}}


def test_keys_that_are_not_read_are_counted(tmp_path):
    folder = tmp_path / "mine"
    write_all_splits(folder, recolour())
    assert load_files(str(folder)).lines == []
    pairs = [{**pair, "weight": 0} for pair in recolour()["train"]]
    write(folder, {"more": {**recolour(), "train": pairs, "name": "a", "tags": []}})
    counted = f"'train/test: weight' ({len(pairs)} times), 'name' (1 times)"
    assert load_files(str(folder)).lines == [f"not read: keys of tasks {counted}"]


def test_solutions_are_joined_within_their_folder(tmp_path):
    """Both folders name the same ids: the evaluation tasks have outputs of their own."""
    folder, other = tmp_path / "mine", [[[5]]]
    for split, outputs in (("training", SOLUTION), ("evaluation", other)):
        (folder / split).mkdir(parents=True)
        (folder / split / "challenges.json").write_text(json.dumps({"same": UNANSWERED}))
        (folder / split / "solutions.json").write_text(json.dumps({"same": outputs}))
    found = load_files(str(folder))
    joined = [found.tasks[split]["same"].tests[0][1].tolist() for split in ("train", "validation")]
    assert joined == [SOLUTION[0], other[0]]
    assert found.lines[0] == "joined: evaluation/challenges.json and evaluation/solutions.json, 1 of 1 tasks"
    for name in ("challenges", "solutions"):
        file = folder / "evaluation" / f"{name}.json"
        file.write_text(file.read_text().replace("same", "e1"))
    assert {split: {*tasks} for split, tasks in load_files(str(folder)).tasks.items()} == {
        "train": {"same"}, "validation": {"e1"},
    }  # fmt: skip


def test_solutions_belong_to_the_challenges_and_not_to_a_plain_file(tmp_path):
    folder = kaggle(tmp_path / "k", training=KEYS)
    write(folder, {"arc-agi_training": {"plain": recolour()}})
    found = load_files(str(folder))
    assert ({*found.tasks["train"]}, found.unanswered) == ({*KEYS, "plain"}, {})
    shutil.copy(folder / "arc-agi_training_solutions.json", folder / "arc-agi_training-solutions.json")
    with pytest.raises(ValueError, match=r"training_solutions\.json: holds solutions, as arc-agi_training-solutions"):
        load_files(str(folder))


@pytest.mark.parametrize(
    ("read", "beside", "told"),
    [
        (["a", "b"], ["sub/c"], "not read: files in folders below (sub/c.json), because others lie beside them"),
        (["training/a", "evaluation/b"], ["extra/c"], "not read: extra/c.json, beside folders of tasks"),
        (["data/training/a", "data/evaluation/b"], ["data/c"], "not read: data/c.json, beside folders of tasks"),
        (["training/a"], [*"cdefg"], "not read: c.json, d.json, e.json and 2 more, beside folders of tasks"),
    ],
)
def test_files_that_are_not_read_are_named(tmp_path, read, beside, told):
    for name in (*read, *beside):
        (tmp_path / f"{name}.json").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.json").write_text(json.dumps(recolour()))
    found = load_files(str(tmp_path))
    assert {key for tasks in found.tasks.values() for key in tasks} == {name[-1] for name in read}
    assert found.lines == [told]


def test_a_task_beside_files_that_state_splits_is_named(tmp_path):
    write(tmp_path / "mine", {"training": {"x": recolour()}, "a": recolour()})
    with pytest.raises(ValueError, match=r"^which split is a\.json\? Other names say one; move it to a folder"):
        load_files(str(tmp_path / "mine"))
