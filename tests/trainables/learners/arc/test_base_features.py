"""Features of ARC demonstrations: what the base says of them, nothing of the tests, computed once and kept whole."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import miniatures
from tests.support.features_kit import DEMONSTRATIONS, PUZZLES, count_forwards, files, grid
from trainables.learners.arc.base_features import features
from trainables.models.loading import Base
from trainables.tasks.arc.task import Puzzle


@pytest.fixture(scope="module")
def base() -> Base:
    return miniatures.base("qwen2")


def direct(base: Base, text: str, limit: int | None = None) -> torch.Tensor:
    """By another route: through the head, all hidden states, the last one's mean."""
    tokens = torch.tensor([base.tokenizer(text).input_ids[:limit]])
    return base.model(tokens, output_hidden_states=True).hidden_states[-1][0].mean(0)


def test_equals_what_the_base_says(base, tmp_path):
    found = features(base, PUZZLES, tmp_path)
    texts = [
        "Input:\n012\n345\nOutput:\n21\n43\n",
        "Input:\n7\nOutput:\n8\n",
        "Input:\n90\nOutput:\n09\n",
    ]
    means = [direct(base, text) for text in texts]
    torch.testing.assert_close(torch.tensor(found["first"]), sum(means) / 3)
    torch.testing.assert_close(
        torch.tensor(found["second"]), direct(base, "Input:\n11\n22\nOutput:\n33\n44\n"), rtol=1e-5, atol=1e-6
    )
    for row in found.values():
        assert (row.shape, row.dtype) == ((base.hidden_size,), np.float32)
    by_token = direct(base, "".join(texts))  # one sequence for all would be another number
    assert np.abs(found["first"] - by_token.numpy()).max() > 0.05


def test_the_second_call_reads_the_file_alone(tmp_path):
    base = miniatures.base("qwen2")
    first = features(base, PUZZLES, tmp_path)

    def refuse(*_: Any) -> None:
        raise AssertionError("the model was asked again")

    base.model.base_model.register_forward_pre_hook(refuse)
    second = features(base, dict(reversed(PUZZLES.items())), tmp_path)
    assert {name: row.tobytes() for name, row in second.items()} == {name: row.tobytes() for name, row in first.items()}
    assert not second["first"].flags.writeable  # a mapped file: no trial can change what others read
    with pytest.raises(AssertionError, match="asked again"):
        features(base, {"first": PUZZLES["first"]}, tmp_path)


def test_only_what_the_numbers_depend_on_names_the_file(base, tmp_path):
    features(base, PUZZLES, tmp_path)
    (kept,) = files(tmp_path)
    second = PUZZLES["second"]
    noise = Puzzle(second.demonstrations, (grid("987", "654"), grid("0")))
    shuffled = Puzzle(PUZZLES["first"].demonstrations[::-1], ())
    again = features(base, {"first": shuffled, "second": noise}, tmp_path)
    assert files(tmp_path) == {kept}
    assert again.keys() == PUZZLES.keys()

    ((source, target),) = second.demonstrations
    others = [
        (base, {**PUZZLES, "second": Puzzle(((source, grid("33", "45")),), second.test_inputs)}),
        (base, {**PUZZLES, "second": Puzzle(((target, source),), second.test_inputs)}),
        (base, {"first": PUZZLES["first"], "renamed": second}),
        (replace(base, name="other"), PUZZLES),
        (miniatures.base("qwen2", seed=1), PUZZLES),
        (miniatures.base("qwen2", dtype=torch.bfloat16), PUZZLES),
    ]
    for number, (model, puzzles) in enumerate(others, 2):
        features(model, puzzles, tmp_path)
        assert len(files(tmp_path)) == number
    changed = features(*others[0], tmp_path)
    assert np.abs(changed["second"] - again["second"]).max() > 1e-3
    assert changed["first"].tobytes() == again["first"].tobytes()


def test_a_demonstration_longer_than_the_base_is_cut(tmp_path):
    base = miniatures.base("gpt2")
    rows = ["0123456789"] * 10
    lengths = count_forwards(base)
    found = features(base, {"long": Puzzle(((grid(*rows), grid(*rows)),), ())}, tmp_path)
    assert lengths == [128]  # n_positions of the miniature; 200 cells and four words would be 204
    text = "\n".join(["Input:", *rows, "Output:", *rows])
    torch.testing.assert_close(torch.tensor(found["long"]), direct(base, text, 128))


def test_the_default_folder_is_the_users_cache(base, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    features(base, PUZZLES)
    assert len(files(tmp_path / "espalier" / "features")) == 1


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_cut_off_file_is_computed_anew(keep, tmp_path):
    base = miniatures.base("qwen2")
    whole = {name: row.copy() for name, row in features(base, PUZZLES, tmp_path).items()}
    (path,) = tmp_path.glob("*.arrow")
    size = path.stat().st_size
    os.truncate(path, int(size * keep))
    seen = count_forwards(base)
    for _ in range(2):
        again = features(base, PUZZLES, tmp_path)
        assert all(np.array_equal(again[name], whole[name]) for name in whole)
    assert len(seen) == DEMONSTRATIONS  # once; then the file was whole again
    assert path.stat().st_size == size


def test_nothing_to_read(base, tmp_path):
    assert features(base, {}, tmp_path) == {}
    with pytest.raises(ValueError, match="puzzle 'bare' has 0 demonstrations; features need at least one"):
        features(base, {"bare": Puzzle((), (grid("1"),))}, tmp_path)
