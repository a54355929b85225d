"""The loss of `efe`: the outcomes, targets and tasks that each term gets, and the parameters that each one trains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.arc_files import ids, task, write
from tests.support.efe_kit import SHORT, built
from trainables.learners.arc.canvas import OUTSIDE
from trainables.learners.arc.efe import loss_terms
from trainables.learners.arc.efe.batch import EfeBatch
from trainables.learners.arc.efe.hyperparameters import TERMS
from trainables.tasks.arc.task import ArcTask

ALONE = replace(SHORT, features=False, memory_capacity=0)


pytestmark = pytest.mark.usefixtures("own_cache")


def trained(planted: ArcTask, **changes: float) -> tuple[EfeBatch, float]:
    """A batch after a round, and the loss that the round reported."""
    learner = built(replace(ALONE, **changes), planted)
    loss = learner.round().loss
    return next(iter(learner.agent.batches.values())), loss


def test_what_the_preference_and_the_way_back_learn_is_not_the_forward_models_affair(planted, monkeypatch):
    """Gradients far above the norm: one norm for all parts would shorten the forward model's steps."""
    plain, loss = trained(planted, max_grad_norm=0.01)
    fit = loss_terms.preference_fit
    monkeypatch.setattr(loss_terms, "preference_fit", lambda *given: 1000 * fit(*given))
    other, same = trained(planted, max_grad_norm=0.01, bidirectional=1e-30)
    assert same == loss
    for name, value in plain.average.items():
        moved = not torch.equal(value, other.average[name])
        assert moved == name.startswith(("backward_model", "preference")), name


@pytest.mark.parametrize("name", TERMS)
def test_every_term_trains_what_it_is_for(planted, name):
    """Without clipping, through which a term might show that teaches nothing; the anchor acts through risk."""
    config = replace(SHORT, memory_capacity=0, max_grad_norm=float("inf"))
    averages = []
    for changes in ({}, {name: 0.5}):
        (batch,) = built(replace(config, **changes), planted).agent.batches.values()
        batch.successes = torch.eye(10)[[3, 7]]
        batch.train(4)
        assert set(batch.terms) == set(changes)
        averages.append(batch.average)
    part = "preference" if name == "anchor" else "forward_model"
    plain, other = averages
    assert any(not torch.equal(plain[key], other[key]) for key in plain if key.startswith(part))


def test_the_loss_by_hand(tmp_path):
    """Every term from the networks' own outcomes: grids of 3x4 cells whose outputs have nothing to do with the inputs,
    networks that are nothing alike, and a weight of its own for each term."""
    rng = np.random.default_rng(0)
    tasks = [task([(g[0].tolist(), g[1].tolist()) for g in rng.integers(0, 10, (4, 2, 3, 4))], []) for _ in range(2)]
    for each in tasks:
        each["test"] = each["train"][:1]
    weights = {name: 0.1 * number for number, name in enumerate(TERMS, 1)}
    config = replace(SHORT, horizon=3, memory_capacity=4, **weights)
    arc = ArcTask(data=write(tmp_path, dict(zip(ids("search", 2), tasks, strict=True))))
    (batch,) = built(config, arc).agent.batches.values()
    torch.manual_seed(0)
    for value in batch.nets.parameters():
        value.data += 0.3 * torch.randn_like(value)
    batch.successes = torch.rand(2, 10).softmax(1)

    cells, targets = batch.next_batch()
    inputs, inside, nets = cells[:, :, 0], targets != OUTSIDE, batch.nets
    read = batch.encoder_input()
    context = nets.context(read)
    preference = nets.preferred(context)
    there, back = nets.go(cells, context, 3, 3).outcomes, nets.back(targets, 3, 3).outcomes
    returned = nets.back(torch.where(inside.unsqueeze(2), there[-1].exp(), 0), 3, 1).outcomes[-1]
    reading = torch.einsum("tfc,tc->tf", nets.encoder["features"], context)
    anchors = torch.cat([batch.successes, torch.zeros(2, 10)])  # of two tasks, and of their probes
    by_hand = {
        "risk": loss_terms.risk(there[-1], preference, inside),
        "ambiguity": loss_terms.ambiguity(there[-1], inside),
        "step": loss_terms.step(there, inside),
        "bidirectional": loss_terms.bidirectional(there, back, inside),
        "anchor": loss_terms.anchor(preference, anchors),
        "alignment": loss_terms.alignment(reading, read.features),
        "reversibility": loss_terms.cross_entropy(returned, inputs, inside),
    }
    loss = loss_terms.cross_entropy(there[-1], targets, inside)
    loss = loss + sum(weights[name] * value for name, value in by_hand.items())
    learned = loss_terms.preference_fit(preference, targets, inside)
    learned = learned + loss_terms.cross_entropy(back[-1], inputs, inside)

    ours, beside = batch.losses(cells, targets)
    torch.testing.assert_close(ours, loss)
    torch.testing.assert_close(beside, learned)
    assert batch.terms == pytest.approx({name: value.mean().item() for name, value in by_hand.items()})
