"""What `efe` makes of its terms: which outcomes, targets and tasks each one gets, and what each one trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.arc_files import write_all_splits
from tests.efe_kit import SHORT, built, rule
from trainables.learners import efe_terms
from trainables.learners.efe_batch import EfeBatch
from trainables.tasks.arc import ArcTask

ALONE = replace(SHORT, features=False, memory_capacity=0)


@pytest.fixture
def planted(tmp_path: Path) -> ArcTask:
    return ArcTask(data=write_all_splits(tmp_path, rule(), search=2))


def trained(planted: ArcTask, **changes: float) -> tuple[EfeBatch, float]:
    """A batch after a round, and the loss that the round reported."""
    learner = built(replace(ALONE, **changes), planted)
    loss = learner.round()["loss"]
    return next(iter(learner._agent.batches.values())), loss


def test_what_the_preference_and_the_way_back_learn_is_not_the_forward_models_affair(planted, monkeypatch):
    """Gradients far above the norm: one norm for all parts would shorten the forward model's steps."""
    plain, loss = trained(planted, max_grad_norm=0.01)
    fit = efe_terms.preference_fit
    monkeypatch.setattr(efe_terms, "preference_fit", lambda *given: 1000 * fit(*given))
    other, same = trained(planted, max_grad_norm=0.01, bidirectional=1e-30)
    assert same == loss
    for name, value in plain.average.items():
        moved = not torch.equal(value, other.average[name])
        assert moved == name.startswith(("backward_model", "preference")), name
