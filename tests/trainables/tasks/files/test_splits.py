"""The names that people give the splits of their data."""

import pytest

from trainables.tasks.files.splits import splits_of

NAMES = {
    "train": ("train", "training", "trainset", "sft.train", "train_sft", "TRAIN-00000-of-00002", "train2"),
    "validation": (
        "validation",
        "validate",
        "valid",
        "val",
        "val_split",
        "dev",
        "devset",
        "eval",
        "evaluation",
        "validation2",
    ),
    "test": (
        "test",
        "test1",
        "test_sft",
        "test_set",
        "testing",
        "testset",
        "heldout",
        "held-out",
        "hold_out",
        "holdout",
    ),
}


@pytest.mark.parametrize(("split", "name"), [(split, name) for split, own in NAMES.items() for name in own])
def test_what_people_call_a_split(split, name):
    assert splits_of([f"{name}.jsonl", "train.jsonl"], "rename it") == [split, "train"]


@pytest.mark.parametrize("name", ["latest", "contest", "values", "device", "extra", "sft"])
def test_what_only_sounds_like_a_split(name):
    assert splits_of([name, f"{name}-2"], "rename it") is None
    with pytest.raises(ValueError, match=f"which split is {name}"):
        splits_of(["train", name], "rename it")
