"""The size head of efe: it learns which proposals to trust from demonstrations, and says what `canvas` says before."""

from __future__ import annotations

import numpy as np
import torch

from trainables.learners.arc.canvas import Fit, canvas, hypotheses
from trainables.learners.arc.efe.agent import Agent
from trainables.learners.arc.efe.learner import EfeConfig
from trainables.learners.arc.efe.size_head import FAMILIES, SizeHead, describe, held_out
from trainables.tasks.arc.task import ArcTask, Puzzle, puzzle


def fit(name: str, agreement: float) -> Fit:
    return Fit(agreement, name, lambda grid: grid)


def doubled(*widths: int) -> Puzzle:
    """Every input twice beside itself: of the last, by the widths of the first ones, more can be said."""
    grids = [np.arange(width, dtype=np.int8)[None] % 10 for width in widths]
    return Puzzle(tuple((grid, np.tile(grid, (1, 2))) for grid in grids[:-1]), (grids[-1],))


def test_descriptions_by_hand():
    proposals = {
        ((2, 2),): [fit("corner (True, False)", 0.5), fit("corner (False, False)", 0.25)],
        ((3, 3),): [fit("object of any: largest", 0.4), fit("box of 3, margin 0", 0.3)],
    }
    rows = describe(proposals)
    assert rows.shape == (2, len(FAMILIES) + 1)
    assert rows[0, FAMILIES.index("corner")] == 0.5
    assert rows[1, FAMILIES.index("corner")] == 0.0
    torch.testing.assert_close(rows[1, FAMILIES.index("object")], torch.tensor(0.4))
    assert rows[:, -1].tolist() == [0.5, 0.5]
    assert SizeHead()(proposals) == ((3, 3),)  # 0.4 + 0.3 is more than 0.5 before anything is learned


def test_every_family_of_lenses_is_described():
    """A lens of an unknown family would be a KeyError in the middle of a sweep."""
    task = ArcTask(data="arc1", same_size=False, max_side=14)
    found = {fit.name.split()[0] for e in task.train() for fits in hypotheses(puzzle(e)).values() for fit in fits}
    assert found == set(FAMILIES)


def test_what_is_held_out_is_asked_and_not_known():
    """Widths 2, 2 and 3: when 3 is held out, both a width of 4 and twice the width are proposed, and 6 is right."""
    cases = list(held_out(Puzzle((*doubled(2, 2, 3).demonstrations, *doubled(3, 3).demonstrations), ())))
    assert cases
    for described, right in cases:
        assert 0 <= right < len(described)
        assert len(described) > 1
    assert not list(held_out(doubled(2, 3)))  # a single demonstration cannot be held out


def test_it_learns_whom_to_trust():
    """In two families' quarrel the box is always right: after training the head sides with it on a new task."""
    head = SizeHead()
    quarrel = {((2, 2),): [fit("corner (True, True)", 0.6)], ((3, 3),): [fit("box of 3, margin 0", 0.5)]}
    assert head(quarrel) == ((2, 2),)
    grids = [np.zeros((5, 6), dtype=np.int8) for _ in range(4)]
    for number, grid in enumerate(grids):
        grid[1 : 3 + number // 3, 2:4] = 3  # boxes of 2x2, and once 3x2
    pairs = tuple((grid, np.full(grid[(grid == 3).any(1)][:, (grid == 3).any(0)].shape, 3, np.int8)) for grid in grids)
    assert head.train([Puzzle(pairs, (grids[0],))]) > 0
    assert head.weights[FAMILIES.index("box")] > head.weights[FAMILIES.index("corner")]
    assert head(quarrel) == ((3, 3),)


def test_the_canvas_follows_the_head():
    """Demonstrations of one width: twice the width, or always 4; the head's choice becomes the canvas's size."""
    task = doubled(2, 2, 3)
    sizes = list(hypotheses(task))
    assert len(sizes) > 1
    for wanted in sizes:
        assert canvas(task, lambda found, wanted=wanted: wanted).tests[0].shape[1:] == wanted[0]


def test_without_the_head_the_best_lens_says_the_size():
    """A training task on whose size lenses differ: the head says 3x3, which is right."""
    (example,) = (e for e in ArcTask(data="arc1", same_size=False).train() if e.key == "ae4f1146")
    sizes = {}
    for head in (True, False):
        (batch,) = Agent(EfeConfig(size_head=head), None, [example], seed=0, memory=None).batches.values()
        sizes[head] = batch.canvases[0].tests
    assert [tests[0].shape[1:] for tests in sizes.values()] == [(3, 3), canvas(puzzle(example)).tests[0].shape[1:]]
    assert sizes[False][0].shape[1:] != (3, 3)
