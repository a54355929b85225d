"""A merge that fails: what the next who asks for the base gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainables.core import Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import load
from trainables.models.merge import merge
from trainables.runtime.trial import open_learner
from trainables.tasks.arena.task import ArenaTask

BASE, CPU = "builtin:tiny", torch.device("cpu")


def test_a_merge_that_cannot_be_written_leaves_the_base_itself(tmp_path: Path) -> None:
    load.cache_clear()
    before = {name: value.clone() for name, value in load(BASE, CPU).model.state_dict().items()}
    learner = open_learner(Pair(LoraConfig(steps_per_round=3), ArenaTask(), BASE), seed=1)
    learner.round()
    (tmp_path / "adapter").mkdir()
    learner.save(str(tmp_path / "adapter"))
    learner.close()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        merge(BASE, tmp_path / "adapter", tmp_path / "file/merged")
    after = load(BASE, CPU).model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
