"""efe's networks: what the encoder counts, which way the backward model reads, and that they never meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.arc_files import recolour, write_all_splits
from trainables.learners.arc.canvas import canvas
from trainables.learners.arc.efe.batch import EfeBatch, NetworkInput, TaskGroup
from trainables.learners.arc.efe.hyperparameters import TERMS
from trainables.learners.arc.efe.learner import EfeConfig
from trainables.learners.arc.efe.net import EfeNets, EncoderInput, encoder_input
from trainables.tasks.arc.task import ArcTask, Puzzle, puzzle


def test_the_encoder_counts_colour_pairs_by_hand():
    """One demonstration 12 -> 11: half its cells are (1, 1), half (2, 1)."""
    grids = [(np.array([[1, 2]], np.int8), np.array([[1, 1]], np.int8)), (np.array([[3, 3]], np.int8),) * 2]
    seen = [canvas(Puzzle(tuple(pairs), (grids[0][0],))) for pairs in (grids, grids[:1])]
    both, first = encoder_input(seen, np.array([[3.0, 4.0], [0.0, 0.0]])).pairs.numpy()
    assert (both[11], both[21], both[33]) == (0.25, 0.25, 0.5)
    assert (first[11], first[21], first[33]) == (0.5, 0.5, 0.0)
    features = encoder_input(seen, np.array([[3.0, 4.0], [0.0, 0.0]])).features
    assert features.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]


def test_the_way_back_reads_its_own_input():
    """The backward model's answer follows the output that it is shown, not the input that it should find."""
    nets = EfeNets(8, 0, [0])
    one, other = torch.full((1, 1, 2, 2), 3), torch.full((1, 1, 2, 2), 4)
    assert not torch.equal(nets.back(one, 2, 1).outcomes[0], nets.back(other, 2, 1).outcomes[0])
    sure = torch.nn.functional.one_hot(one, 10).float().movedim(-1, 2)
    torch.testing.assert_close(nets.back(sure, 2, 1).outcomes[0], nets.back(one, 2, 1).outcomes[0])
    assert nets.context(EncoderInput(torch.zeros(1, 100), torch.zeros(1, 0))).shape == (1, 8)


def test_every_part_receives_a_gradient_and_networks_never_meet(tmp_path):
    planted = ArcTask(data=write_all_splits(tmp_path, recolour(), search=2))
    sight = NetworkInput(canvas(puzzle(planted.search()[0])), np.ones(4, dtype=np.float32))
    terms = dict.fromkeys(TERMS, 0.1)
    every = EfeConfig(hidden_size=16, horizon=2, per_device_train_batch_size=6, features=True, **terms)
    batch = EfeBatch(TaskGroup([sight, sight], [], [1, 2]), every, begin=0)
    batch.successes = torch.full((2, 10), 0.1)
    sum(part[1] for part in batch.losses(*batch.next_batch())).backward()
    for name, value in batch.nets.named_parameters():
        assert value.grad[1].abs().max() > 0, name
        assert value.grad[0].abs().max() == 0, name
