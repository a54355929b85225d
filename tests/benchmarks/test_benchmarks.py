"""Parts of benchmarks: the counters of operations and arithmetic, and the learner that does nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.costs import cost
from benchmarks.dtype import paired_difference
from benchmarks.scaling import TASK, NoOpConfig
from trainables.core import Learner


def test_costs_by_hand():
    left, right = torch.randn(4, 8, requires_grad=True), torch.randn(8, 16, requires_grad=True)
    assert cost(lambda: left @ right).flops == pytest.approx(2 * 4 * 8 * 16)
    whole = cost(lambda: (left @ right).backward(torch.ones(4, 16)))
    assert whole.flops == pytest.approx(3 * 2 * 4 * 8 * 16)  # backward has a product for either side
    assert cost(lambda: left.detach().view(8, 4).t()).operations == 0  # views launch nothing
    assert cost(lambda: left.detach() + 1).operations == 1
    linear = torch.nn.Linear(8, 16, bias=False)
    assert cost(lambda: linear(torch.ones(2, 3, 8)).detach()).operations == 2  # ones, and one product
    query = torch.randn(1, 2, 5, 4, requires_grad=True)  # two heads of 5 x 5 scores, of 4 numbers each
    attend = torch.nn.functional.scaled_dot_product_attention
    assert cost(lambda: attend(query, query, query)).flops == 2 * (2 * 2 * 5 * 5 * 4)


def test_the_learner_that_does_nothing_can_be_swept():
    assert isinstance(NoOpConfig().build(None, TASK, 0), Learner)


def test_a_paired_difference_by_hand():
    """Of one seed: t of 3 degrees of freedom times the error of the mean of 1, 0, 0, 0. Of several: wider."""
    first, second = np.array([[1.0, 1, 0, 1]]), np.array([[0.0, 1, 0, 1]])
    difference, (low, high) = paired_difference(first, second)
    assert difference == 0.25
    assert (low, high) == pytest.approx((0.25 - 3.1824 * 0.25, 0.25 + 3.1824 * 0.25), abs=1e-4)
    assert paired_difference(first, first) == (0, (0, 0))
    again = np.array([[1.0, 1, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1]])
    spread, (low, high) = paired_difference(again, again[[1, 2, 0]])
    assert spread == 0
    assert high - low > 0.5, "the seeds differ, although their means over seeds do not"
