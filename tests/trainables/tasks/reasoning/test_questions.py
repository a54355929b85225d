"""A question is in one split only, and the same fields give the same questions."""

from __future__ import annotations

import pytest

pytest.importorskip("reasoning_gym", reason="run `make reasoning-gym`")

from tests.support.reasoning_kit import plant
from trainables.checks.near_duplicates import plain
from trainables.tasks.reasoning.task import ReasoningTask

SPLITS = ("train", "search", "test")
SIZES = {"train_size": 40, "search_size": 10, "test_size": 20}


def texts(task):
    return {split: [plain(example.data["question"]) for example in task.split(split)] for split in SPLITS}


def test_splits_share_no_question_though_the_generator_repeats_all_of_them(monkeypatch):
    """40 questions, and then the same in capitals: 20 or so fall to train, 8 to search, 12 to test."""
    plant(monkeypatch, "repeats")
    task = ReasoningTask("rg:repeats", ("different=40",), train_size=12, search_size=4, test_size=6)
    found = texts(task)
    assert [len(set(own)) for own in found.values()] == [12, 4, 6]
    assert len(set().union(*map(set, found.values()))) == 22
    every = ReasoningTask("rg:repeats", ("different=40",), train_size=12, search_size=4, test_size=6).test_up_to(1000)
    assert {plain(example.data["question"]) for example in every}.isdisjoint(found["train"] + found["search"])
    with pytest.raises(ValueError, match=r"^rg:repeats has only \d+ different questions for the train split") as told:
        ReasoningTask("rg:repeats", ("different=40",), train_size=40, search_size=4, test_size=6).train()
    assert "\n" not in str(told.value)


def test_a_question_that_two_generators_ask_is_in_one_split(monkeypatch):
    for name in ("first", "second"):
        plant(monkeypatch, name)
    first, second = (texts(ReasoningTask(f"rg:{name}", ("different=120",), **SIZES)) for name in ("first", "second"))
    assert set(first["test"]) & set(second["test"]), "they do ask the same"
    assert set(first["train"]).isdisjoint(second["search"] + second["test"])


def test_repeated_questions_are_counted_and_said(monkeypatch):
    plant(monkeypatch, "twice", __getitem__=lambda self, i: {"question": f"Is {i // 2} even?", "answer": "a", "no": 0})
    said = ReasoningTask("rg:twice", train_size=10, search_size=4, test_size=6).describe(len)
    left_out, draws = (int(word.replace(",", "")) for word in said[1].split() if word.replace(",", "").isdigit())
    assert draws - 1 <= 2 * left_out <= draws, "every other one was drawn before"


def test_the_same_fields_give_the_same_questions_and_more_only_append():
    task = ReasoningTask("rg:gcd+spell_backward", train_size=20, search_size=8, test_size=12)
    more = ReasoningTask("rg:gcd+spell_backward", train_size=40, search_size=8, test_size=30)
    assert list(more.train()[:20]) == list(task.train())
    assert list(more.search()) == list(task.search())
    assert list(task.test_up_to(30)) == list(more.test())
    assert list(task.test_up_to(2)) == list(task.test())
    other = ReasoningTask("rg:gcd+spell_backward", seed=1, train_size=20, search_size=8, test_size=12)
    assert set(texts(task)["train"]).isdisjoint(texts(other)["train"]), "neighbouring seeds are no neighbours here"
    assert [example.kind for example in task.train()] == ["gcd", "spell_backward"] * 10


def test_splits_of_other_seeds_never_meet():
    train = {text for seed in range(5) for text in texts(ReasoningTask("rg:chain_sum", seed=seed, **SIZES))["train"]}
    test = {text for seed in range(5) for text in texts(ReasoningTask("rg:chain_sum", seed=seed, **SIZES))["test"]}
    assert len(train) > SIZES["train_size"] + 10, "seeds differ"
    assert train.isdisjoint(test)
