"""percell's networks: many in one computation, each with its own loss, gradient and clipping."""

from __future__ import annotations

import math

import pytest
import torch

from trainables.learners.arc.canvas import OUTSIDE, PLANES
from trainables.learners.arc.percell.batch import clip, cross_entropy
from trainables.learners.arc.percell.net import PercellNets


def test_every_parameter_receives_a_gradient():
    nets = PercellNets(16, [0, 1])
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(0, 10, (2, 4, PLANES, 5, 5), generator=generator)
    targets = torch.randint(0, 10, (2, 4, 5, 5), generator=generator)
    cross_entropy(nets(cells, 3)[-1], targets).sum().backward()
    for name, value in nets.named_parameters():
        assert value.grad is not None, name
        assert (value.grad.abs().flatten(1).max(1).values > 0).all(), name


def test_networks_of_a_batch_never_meet():
    """The gradient of one network's loss is zero in every other."""
    nets = PercellNets(16, [0, 1, 2])
    cells = torch.randint(0, 10, (3, 2, PLANES, 4, 4), generator=torch.Generator().manual_seed(0))
    nets(cells, 3)[-1][1].square().mean().backward()
    for name, value in nets.named_parameters():
        assert value.grad[1].abs().max() > 0, name
        assert value.grad[0].abs().max() == value.grad[2].abs().max() == 0, name


def test_the_loss_is_per_task_and_skips_what_is_outside():
    """By hand: uniform logits cost ln 10 in every cell; a logit ln 9 above the rest makes a probability of 1/2."""
    logits = torch.zeros(2, 1, 10, 1, 3)
    logits[1, 0, 4, 0, 0] = math.log(9)
    targets = torch.tensor([[[[1, 2, OUTSIDE]]], [[[4, 5, OUTSIDE]]]])
    first, second = cross_entropy(logits, targets).tolist()
    assert first == pytest.approx(math.log(10))
    assert second == pytest.approx((math.log(2) + math.log(10)) / 2)


def test_each_network_is_clipped_by_its_own_norm():
    ours = torch.nn.Parameter(torch.zeros(2, 3))
    ours.grad = torch.tensor([[3.0, 0.0, 4.0], [0.1, 0.2, 0.2]])
    alone = torch.nn.Parameter(torch.zeros(3))
    alone.grad = ours.grad[0].clone()
    torch.nn.utils.clip_grad_norm_([alone], 1.0)
    clip([ours], 1.0)
    torch.testing.assert_close(ours.grad, torch.stack([alone.grad, torch.tensor([0.1, 0.2, 0.2])]))


def test_padding_changes_nothing():
    nets = PercellNets(16, [0])
    cells = torch.randint(0, 10, (1, 2, PLANES, 4, 4), generator=torch.Generator().manual_seed(0))
    padded = torch.full((1, 2, PLANES, 7, 7), OUTSIDE)
    padded[..., :4, :4] = cells
    torch.testing.assert_close(nets(padded, 4)[-1][..., :4, :4], nets(cells, 4)[-1])
