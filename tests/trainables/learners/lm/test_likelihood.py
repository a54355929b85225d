"""The likelihood of right answers as a score, against transformers' own logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainables.core import Pair
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import load
from trainables.models.tokenization import encode_row
from trainables.packed.solo import Solo
from trainables.tasks.own.task import OwnTask

QUESTIONS = str(Path(__file__).parents[3] / "golden/questions.csv")
TASK = OwnTask(QUESTIONS, scoring="likelihood", max_new_tokens=4)


def expected(base):
    """The geometric mean probability of each answer's tokens, its end included."""
    found = []
    for example in TASK.search():
        row = encode_row(base.tokenizer, example)
        with torch.no_grad():
            logits = base.model(torch.tensor([row.tokens])).logits[0].log_softmax(-1)
        own = [logits[i - 1, token].item() for i, (token, label) in enumerate(zip(row.tokens, row.labels)) if label]  # noqa: B905
        found.append(torch.tensor(own).mean().exp().item())
    return found


@pytest.mark.parametrize("config", [LoraConfig(), DoraConfig()], ids=["with others", "alone"])
def test_the_score_is_the_geometric_mean_probability(config):
    base = load("builtin:tiny")
    right = expected(base)
    made = config.build(base, TASK, 0)
    learner = made if hasattr(made, "round") else Solo(base, made, 0)
    evaluation = learner.evaluate()
    learner.close()
    assert evaluation.items == pytest.approx(right, rel=1e-4)
    assert evaluation.score == pytest.approx(sum(right) / len(right), rel=1e-4)
    assert len(evaluation.completions) == len(right)
    assert "lenient" not in evaluation.metrics, "a gain in form would be read from it"


def test_fixed_texts_have_no_likelihood():
    assert Pair(LoraConfig(), TASK).baselines() == {}
    assert Pair(LoraConfig(), OwnTask(QUESTIONS)).baselines()
