"""All terms of `efe`: padding never counts, tasks are independent, gradients are finite and only where due."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from trainables.learners.arc.efe import loss_terms as terms


@dataclass
class World:
    """T = 3 tasks, N = 2 grids, 3 steps; log-probabilities and preferences are leaves, each shows its gradient."""

    forward: list[Tensor]
    backward: list[Tensor]
    target: Tensor
    inside: Tensor
    preference: Tensor
    successes: Tensor
    context: Tensor
    features: Tensor

    def leaves(self) -> dict[str, list[Tensor]]:
        singles = ("preference", "successes", "context", "features")
        return {"forward": self.forward, "backward": self.backward} | {name: [getattr(self, name)] for name in singles}

    def task(self, t: int) -> World:
        def cut(value: list[Tensor] | Tensor) -> list[Tensor] | Tensor:
            return [each[t : t + 1] for each in value] if isinstance(value, list) else value[t : t + 1]

        whole = vars(self) | {"successes": None}
        return World(
            **{name: cut(value) for name, value in whole.items() if value is not None}, successes=self.successes
        )


TERMS: dict[str, Callable[[World], Tensor]] = {
    "cross_entropy": lambda w: terms.cross_entropy(w.forward[-1], w.target, w.inside),
    "risk": lambda w: terms.risk(w.forward[-1], w.preference, w.inside),
    "preference_fit": lambda w: terms.preference_fit(w.preference, w.target, w.inside),
    "ambiguity": lambda w: terms.ambiguity(w.forward[-1], w.inside),
    "step": lambda w: terms.step(w.forward, w.inside),
    "bidirectional": lambda w: terms.bidirectional(w.forward, w.backward, w.inside),
    "anchor": lambda w: terms.anchor(w.preference, w.successes),
    "alignment": lambda w: terms.alignment(w.context, w.features),
    "reversibility": lambda w: terms.reversibility(w.backward[-1], w.target, w.inside),
}
ON_CELLS = TERMS.keys() - {"anchor", "alignment"}
TEACHES = {  # which leaves a term trains; all others are stopped
    "cross_entropy": {"forward": [2]},
    "risk": {"forward": [2]},
    "preference_fit": {"preference": [0]},
    "ambiguity": {"forward": [2]},
    "step": {"forward": [0, 1]},
    "bidirectional": {"forward": [0, 1]},
    "anchor": {"preference": [0]},
    "alignment": {"context": [0]},
    "reversibility": {"backward": [2]},
}


def world(certain: bool = False) -> World:
    """Random; with `certain`, every cell of every outcome is one-hot, so that all other log-probabilities are -inf."""
    rng = torch.Generator().manual_seed(0)

    def walk() -> list[Tensor]:
        raw = [torch.randn(3, 2, 10, 3, 4, generator=rng) for _ in range(3)]
        hot = [torch.nn.functional.one_hot(each.argmax(2), 10).movedim(-1, 2).float() for each in raw]
        return [each.log() if certain else each.log_softmax(2) for each in (hot if certain else raw)]

    target = torch.randint(0, 10, (3, 2, 3, 4), generator=rng)
    target[:, 1, 2], target[1, :, :, 3] = 10, 10  # grids of other sizes in each task
    made = World(
        walk(),
        walk(),
        target,
        target != 10,
        torch.randn(3, 10, generator=rng),
        torch.randn(10, generator=rng).softmax(0),
        torch.randn(3, 5, generator=rng),
        torch.randn(3, 5, generator=rng),
    )
    for leaf in (leaf for group in made.leaves().values() for leaf in group):
        leaf.requires_grad_()
    return made


def widen(made: World) -> World:
    """Return the batch in a larger square, with a third grid that is all padding; predictions there are junk."""

    def wider(cells: Tensor, junk: Tensor) -> Tensor:
        junk = junk.clone()
        junk[:, :2, ..., :3, :4] = cells
        return junk

    junk = torch.randn(3, 3, 10, 6, 5, generator=torch.Generator().manual_seed(1)).mul(5).log_softmax(2)
    return replace(
        made,
        forward=[wider(each, junk) for each in made.forward],
        backward=[wider(each, junk.roll(1, 2)) for each in made.backward],
        target=wider(made.target, torch.full((3, 3, 6, 5), 10)),
        inside=wider(made.inside, torch.zeros(3, 3, 6, 5, dtype=torch.bool)),
    )


@pytest.mark.parametrize("name", sorted(ON_CELLS))
def test_padding_does_not_count(name):
    made = world()
    found = TERMS[name](made)
    wide = widen(made)
    torch.testing.assert_close(TERMS[name](wide), found)
    everything = replace(wide, inside=torch.ones_like(wide.inside), target=wide.target.clamp(max=9))
    assert (TERMS[name](everything) - found).abs().min() > 1e-3  # counted, the padding would show in every task


@pytest.mark.parametrize("name", sorted(ON_CELLS))
def test_a_task_without_cells_costs_nothing(name):
    made = world()
    made.inside[1] = False
    found = TERMS[name](made)
    assert found[1] == 0
    assert found.isfinite().all()


@pytest.mark.parametrize("name", TERMS)
def test_a_task_alone_has_the_same_value(name):
    made = world()
    together = TERMS[name](made)
    assert together.shape == (3,)
    assert together.unique().numel() == 3
    alone = [TERMS[name](made.task(t)) for t in range(3)]
    torch.testing.assert_close(torch.cat(alone), together)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("certain", [False, True])
def test_gradients_are_finite_and_go_only_where_they_teach(name, certain):
    """One-hot outcomes too: their other log-probabilities are -inf, where a careless 0 * log 0 is NaN."""
    made = world(certain)
    TERMS[name](made).sum().backward()
    for group, leaves in made.leaves().items():
        for index, leaf in enumerate(leaves):
            taught = index in TEACHES[name].get(group, [])
            assert (leaf.grad is not None) == taught, f"{group}[{index}]"
            assert leaf.grad is None or leaf.grad.isfinite().all(), f"{group}[{index}]"
            assert certain or leaf.grad is None or leaf.grad.abs().max() > 0, f"{group}[{index}]"


@pytest.mark.parametrize("name", sorted(ON_CELLS - {"preference_fit"}))
def test_gradients_at_certain_logits_are_finite(name):
    """Through log_softmax, as a network has it: logits 200 apart underflow float32's probabilities to exact zeros."""
    made = world()
    raw = [torch.zeros(3, 2, 10, 3, 4).scatter_(2, each.argmax(2, keepdim=True), 200.0) for each in made.forward]
    raw = [each.requires_grad_() for each in raw]
    outcomes = [each.log_softmax(2) for each in raw]
    found = TERMS[name](replace(made, forward=outcomes, backward=outcomes[::-1]))
    assert found.isfinite().all()
    found.sum().backward()
    assert all(each.grad is None or each.grad.isfinite().all() for each in raw)
