"""Which files of a folder are data, and that a copy of a hub's data set is read as the hub's."""

import json

import datasets
import pytest

from trainables.tasks.files.source import parts_of


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def write(file, *numbers):
    """A row for each number."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"n": n} for n in numbers]
    if file.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(file))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def splits(folder):
    return [(part.split, part.name, [row["n"] for _, row in part.rows]) for part in parts_of(str(folder)).parts]


def test_the_copy_of_a_data_set(tmp_path):
    copy = tmp_path / "copy"
    write(copy / "data" / "train-00000-of-00002.parquet", 1)
    write(copy / "data" / "train-00001-of-00002.parquet", 2)
    write(copy / "data" / "test-00000-of-00001.parquet", 3)
    (copy / "README.md").write_text("---\nlicense: mit\n---\n# configs: none\n")
    (copy / "dataset_infos.json").write_text("{}")
    assert splits(copy) == [
        ("test", "data/test-00000-of-00001.parquet", [3]),
        ("train", "data/train-00000-of-00002.parquet", [1]),
        ("train", "data/train-00001-of-00002.parquet", [2]),
    ]
    hub = tmp_path / "datasets--a--b"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("abc")
    (hub / "snapshots").mkdir()
    copy.rename(hub / "snapshots" / "abc")
    assert [split for split, *_ in splits(hub)] == ["test", "train", "train"], "the hub's own cache"


def test_lines_of_json_have_two_common_names(tmp_path):
    for number, name in enumerate(("train.jsonl", "test.ndjson")):
        write(tmp_path / name, number)
    assert splits(tmp_path) == [("test", "test.ndjson", [1]), ("train", "train.jsonl", [0])]
    assert [part.name for part in parts_of(str(tmp_path / "test.ndjson")).parts] == ["test.ndjson"]


def test_a_readme_says_which_files_are_which_split(tmp_path):
    write(tmp_path / "set" / "a.jsonl", 1, 2)
    write(tmp_path / "set" / "b.jsonl", 3)
    files = [{"split": "train", "path": "b.jsonl"}, {"split": "test", "path": "a.jsonl"}]
    said = json.dumps([{"config_name": "default", "data_files": files}])
    (tmp_path / "set" / "README.md").write_text(f"---\nlicense: mit\nconfigs: {said}\n---\n")
    assert splits(tmp_path / "set") == [("train", "train", [3]), ("test", "test", [1, 2])]


def test_what_datasets_saves_to_disk(tmp_path):
    parts = {"train": datasets.Dataset.from_list([{"n": 1}]), "test": datasets.Dataset.from_list([{"n": 2}])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "both"))
    assert splits(tmp_path / "both") == [("train", "train", [1]), ("test", "test", [2])]
    parts["train"].save_to_disk(str(tmp_path / "one"))
    assert splits(tmp_path / "one") == [("train", "train", [1])]
    (tmp_path / "one" / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"one: cannot be read \(.*\); save the data set again") as error:
        parts_of(str(tmp_path / "one"))
    assert "\n" not in str(error.value)


def test_what_programs_leave_behind_is_no_data(tmp_path):
    write(tmp_path / "train.jsonl", 1)
    for name in ("._train.jsonl", "~$test.csv", ".ipynb_checkpoints/train.jsonl", "__MACOSX/test.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert splits(tmp_path) == [("train", "train.jsonl", [1])]
    assert parts_of(str(tmp_path)).lines == []


def test_files_below_others_are_named(tmp_path):
    write(tmp_path / "train.jsonl", 1)
    write(tmp_path / "old" / "train.jsonl", 2)
    assert splits(tmp_path) == [("train", "train.jsonl", [1])]
    told = "not read: files in folders below (old/train.jsonl), because others lie beside them"
    assert parts_of(str(tmp_path)).lines == [told]


def test_folders_of_splits(tmp_path):
    write(tmp_path / "train" / "a.jsonl", 1)
    write(tmp_path / "test" / "a.jsonl", 2)
    assert splits(tmp_path) == [("test", "test/a.jsonl", [2]), ("train", "train/a.jsonl", [1])]


def test_a_file_whose_content_is_elsewhere(tmp_path):
    for name in ("a.jsonl", "b.parquet"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        with pytest.raises(ValueError, match="only a pointer of Git LFS is there, fetch the file with `git lfs pull`"):
            parts_of(str(tmp_path / name))
