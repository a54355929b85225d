"""Files of rationales and of preference pairs: what is read, and what is refused by its line."""

from __future__ import annotations

import pytest

from tests.support.phases_kit import written
from trainables.tasks.strategyqa.rationale_files import load_pairs, load_rationales
from trainables.tasks.strategyqa.task import StrategyQaTask


def test_a_rationale_file_is_checked_by_line(tmp_path):
    good = {"key": "a", "rationale": "Because."}
    for rows, message in (
        ([good, {"key": "b"}], "line 2 needs a key, rationale"),
        ([good, good], "line 2 has the key 'a' again"),
        ([good | {"weight": -1}], "line 1 has the weight -1"),
        ([good | {"weight": float("nan")}], "line 1 has the weight nan"),
        ([[1], good], "line 1 needs a key"),
        ([good | {"rationale": " "}], "line 1 needs a key, rationale"),
    ):
        load_rationales.cache_clear()
        with pytest.raises(ValueError, match=message):
            load_rationales(written(tmp_path / "r.jsonl", rows))
    with pytest.raises(ValueError, match="is no file"):
        load_rationales(str(tmp_path / "none.jsonl"))
    own = written(tmp_path / "own.jsonl", [{"key": "elsewhere", "rationale": "Because."}])
    with pytest.raises(
        ValueError, match=r"^rationales='[^\n]*own.jsonl' has none of the training questions in it[^\n]*$"
    ):
        StrategyQaTask(rationales=own).train()


def test_a_pairs_file_is_checked_by_line_and_answers_by_key(tmp_path):
    good = {"key": "a", "chosen": "Yes.", "rejected": "No."}
    for rows, message in (
        ([good, {"key": "b", "chosen": "Yes."}], "line 2 needs a key, chosen, rejected"),
        ([good, good], "line 2 has the key 'a' again"),
        ([good | {"rejected": "Yes. "}], "line 1 prefers a completion to itself"),
    ):
        load_pairs.cache_clear()
        with pytest.raises(ValueError, match=message):
            load_pairs(written(tmp_path / "p.jsonl", rows))
    with pytest.raises(ValueError, match=r"pairs='[^\n]*none.jsonl' is no file"):
        load_pairs(str(tmp_path / "none.jsonl"))
    first, second = StrategyQaTask(train_size=8).train()[:2]
    own = written(tmp_path / "own.jsonl", [good, good | {"key": second.key}])
    task = StrategyQaTask(train_size=8, pairs=own)
    assert (task.pair(first), task.pair(second), StrategyQaTask().pair(second)) == (None, ("Yes.", "No."), None)
    assert task.train() == StrategyQaTask(train_size=8).train()
    elsewhere = written(tmp_path / "elsewhere.jsonl", [good])
    with pytest.raises(ValueError, match=r"^pairs='[^\n]*elsewhere.jsonl' has none of the training questions in it"):
        StrategyQaTask(pairs=elsewhere).train()
