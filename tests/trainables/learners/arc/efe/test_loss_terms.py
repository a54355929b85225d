"""The terms of `efe`: every value by hand with math.log, zero where it should be, and not what a mistake would give."""

from __future__ import annotations

import math
from math import log

import pytest
import torch
from torch import Tensor

from trainables.learners.arc.efe import loss_terms as terms

Cell = dict[int, float]  # probabilities of colours; the empty one is padding
GREY = dict.fromkeys(range(10), 0.1)
PAD: Cell = {}


def outcome(*tasks: list[list[Cell]]) -> tuple[Tensor, Tensor]:
    """Tasks of grids of one row each -> log-probabilities (T, N, 10, 1, W) and inside; padding is a certain 9."""
    cells = [
        [[[cell.get(c, 0.0) if cell else float(c == 9) for c in range(10)] for cell in g] for g in t] for t in tasks
    ]
    inside = torch.tensor([[[bool(cell) for cell in grid] for grid in task] for task in tasks])
    return torch.tensor(cells, dtype=torch.float64).movedim(-1, 2).unsqueeze(3).log(), inside.unsqueeze(2)


def colours(*tasks: list[list[int]]) -> Tensor:
    """(T, N, 1, W); 10 is padding."""
    return torch.tensor(tasks).unsqueeze(2)


def logits(*rows: Cell) -> Tensor:
    """Preferences (T, 10) whose softmax is `rows`; shifted, as logits may be."""
    return torch.tensor([[row.get(c, 0.0) for c in range(10)] for row in rows], dtype=torch.float64).log() + 3


def value(term: Tensor) -> float:
    assert term.shape == (1,)
    return term.item()


def test_cross_entropy_by_hand():
    """Five cells in two grids of 3 and 2; the mean is over cells, not over grids."""
    q, inside = outcome([[{1: 0.5, 2: 0.5}, {3: 1.0}, {4: 0.25, 5: 0.75}], [GREY, {7: 0.2, 8: 0.8}, PAD]])
    found = value(terms.cross_entropy(q, colours([[1, 3, 4], [0, 8, 10]]), inside))
    costs = [[log(2), 0.0, log(4)], [log(10), log(1 / 0.8)]]
    assert found == pytest.approx(sum(map(sum, costs)) / 5)
    grid_means = (sum(costs[0]) / 3 + sum(costs[1]) / 2) / 2
    padding_as_a_free_cell = sum(map(sum, costs)) / 6
    for mistake in (grid_means, padding_as_a_free_cell):
        assert abs(found - mistake) > 0.05


def test_cross_entropy_is_torchs_own():
    rng = torch.Generator().manual_seed(0)
    raw, target = torch.randn(2, 3, 10, 4, 5, generator=rng), torch.randint(0, 11, (2, 3, 4, 5), generator=rng)
    found = terms.cross_entropy(raw.log_softmax(2), target, target != 10)
    theirs = [torch.nn.functional.cross_entropy(raw[t], target[t], ignore_index=10) for t in range(2)]
    torch.testing.assert_close(found, torch.stack(theirs))


def test_an_impossible_target_costs_infinitely_much():
    q, inside = outcome([[{1: 1.0}]])
    assert value(terms.cross_entropy(q, colours([[2]]), inside)) == math.inf


C = {c: 0.3 if c == 0 else 0.2 if c == 1 else 0.0625 for c in range(10)}  # 0.3 + 0.2 + 8 x 0.0625 = 1


def test_risk_by_hand():
    """Grid means (0.75, 0.25) and (0.1, 0.9) of colours 0 and 1 against C; a third grid is padding only."""
    q, inside = outcome([[{0: 0.5, 1: 0.5}, {0: 1.0}], [{0: 0.1, 1: 0.9}, PAD], [PAD, PAD]])
    found = value(terms.risk(q, logits(C), inside))

    def kl(zero: float, one: float) -> float:
        return zero * log(zero / 0.3) + one * log(one / 0.2)

    assert found == pytest.approx((kl(0.75, 0.25) + kl(0.1, 0.9)) / 2)
    cell_by_cell = (kl(0.5, 0.5) + log(1 / 0.3) + kl(0.1, 0.9)) / 3
    empty_grid_counted = (kl(0.75, 0.25) + kl(0.1, 0.9)) / 3
    pooled = kl(1.6 / 3, 1.4 / 3)
    for mistake in (cell_by_cell, empty_grid_counted, pooled):
        assert abs(found - mistake) > 0.05


def test_risk_is_not_the_divergence_the_other_way_round():
    q = {c: 0.55 if c == 0 else 0.05 for c in range(10)}
    found = value(terms.risk(*_with(outcome([[q]]), logits(C))))
    divergence = sum(q[c] * log(q[c] / C[c]) for c in range(10))
    exchanged = sum(C[c] * log(C[c] / q[c]) for c in range(10))
    assert found == pytest.approx(divergence)
    assert abs(found - exchanged) > 0.01


def _with(pair: tuple[Tensor, Tensor], preference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return pair[0], preference, pair[1]


def test_risk_is_zero_when_the_mean_prediction_is_what_is_preferred():
    """Two cells that differ from C, but whose mean is C: (0.8, 0.2) and (0.2, 0.8) around (0.5, 0.5)."""
    q, inside = outcome([[{0: 0.8, 1: 0.2}, {0: 0.2, 1: 0.8}]])
    half = torch.full((1, 10), -40.0, dtype=torch.float64)
    half[0, :2] = 0.0
    assert value(terms.risk(q, half, inside)) == pytest.approx(0, abs=1e-12)


def test_preference_fit_by_hand():
    """Histograms (2/3, 1/3) and (0, 1): their mean is (1/3, 2/3); pooled over cells it would be (1/2, 1/2)."""
    target = colours([[0, 0, 1], [1, 10, 10]])
    found = value(terms.preference_fit(logits(C), target, target != 10))
    assert found == pytest.approx(log((1 / 3) / 0.3) / 3 + 2 * log((2 / 3) / 0.2) / 3)
    pooled = (log(0.5 / 0.3) + log(0.5 / 0.2)) / 2
    assert abs(found - pooled) > 0.05


def test_preference_is_learned_from_the_targets():
    """Plain gradient steps on the fit alone end at the histogram, where the term is zero."""
    target = colours([[4, 4, 4, 7]])
    preference = torch.zeros(1, 10, dtype=torch.float64, requires_grad=True)
    first = terms.preference_fit(preference, target, target != 10)
    (gradient,) = torch.autograd.grad(first.sum(), preference)
    assert gradient[0, [0, 4, 7]].tolist() == pytest.approx([0.1, 0.1 - 0.75, 0.1 - 0.25])  # C - H
    optimizer = torch.optim.SGD([preference], lr=2.0)
    for _ in range(3000):
        optimizer.zero_grad()
        terms.preference_fit(preference, target, target != 10).sum().backward()
        optimizer.step()
    assert preference.softmax(1)[0, [4, 7]].tolist() == pytest.approx([0.75, 0.25], abs=1e-2)
    assert value(terms.preference_fit(preference, target, target != 10)) == pytest.approx(0, abs=1e-2)


def test_ambiguity_by_hand():
    q, inside = outcome([[{0: 0.5, 1: 0.5}, {2: 1.0}, {3: 0.25, 4: 0.75}, PAD], [GREY, PAD, PAD, PAD]])
    found = value(terms.ambiguity(q, inside))
    entropies = [log(2), 0.0, 0.25 * log(4) + 0.75 * log(4 / 3), log(10)]
    assert found == pytest.approx(sum(entropies) / 4)
    assert abs(found - sum(entropies) / 8) > 0.05  # certain padding is no certainty
    certain, everywhere = outcome([[{2: 1.0}, {3: 1.0}]])
    assert value(terms.ambiguity(certain, everywhere)) == 0.0
    grey, everywhere = outcome([[GREY]])
    assert value(terms.ambiguity(grey, everywhere)) == pytest.approx(log(10))


def test_step_by_hand():
    """Two cells, three steps: 1 - (q_t . q_K), for the first two steps only."""
    first, inside = outcome([[{0: 1.0}, {1: 1.0}]])
    second, _ = outcome([[{0: 0.5, 1: 0.5}, {1: 1.0}]])
    last, _ = outcome([[{1: 1.0}, {1: 0.6, 2: 0.4}]])
    found = value(terms.step([first, second, last], inside))
    assert found == pytest.approx(((1 - 0.0 + 1 - 0.6) / 2 + (1 - 0.5 + 1 - 0.6) / 2) / 2)
    last_counted = (2 * found + ((1 - 1.0) + (1 - 0.6**2 - 0.4**2)) / 2) / 3
    assert abs(found - last_counted) > 0.05


def test_step_is_zero_only_for_who_arrives_at_once_and_is_certain():
    there, inside = outcome([[{5: 1.0}]])
    unsure, _ = outcome([[{5: 0.9, 6: 0.1}]])
    elsewhere, _ = outcome([[{6: 1.0}]])
    assert value(terms.step([there, there, there], inside)) == 0.0
    assert value(terms.step([elsewhere], inside)) == 0.0  # a horizon of one has no earlier step
    assert value(terms.step([unsure, unsure], inside)) == pytest.approx(1 - 0.81 - 0.01)
    assert value(terms.step([elsewhere, there], inside)) == 1.0
    early = value(terms.step([elsewhere, there, there], inside))
    late = value(terms.step([elsewhere, elsewhere, there], inside))
    assert (early, late) == (0.5, 1.0)


def to_middle(p: Cell, q: Cell) -> float:
    """KL(p || (p + q) / 2)."""
    return sum(p[c] * log(p[c] / ((p[c] + q.get(c, 0)) / 2)) for c in p)


def js(p: Cell, q: Cell) -> float:
    return (to_middle(p, q) + to_middle(q, p)) / 2


def test_bidirectional_by_hand():
    """K = 3: the states one and two steps from the input. backward[1] is the first of them, backward[0] the second."""
    a, b, c, d, e, f = states = [
        {0: 0.5, 1: 0.5},
        {1: 1.0},
        {2: 0.9, 3: 0.1},
        {1: 0.7, 2: 0.3},
        {0: 0.2, 1: 0.8},
        {7: 1.0},
    ]
    grids = [outcome([[state]])[0] for state in states]
    found = value(terms.bidirectional(grids[:3], grids[3:], outcome([[a]])[1]))
    assert found == pytest.approx((js(a, e) + js(b, d)) / 2)
    same_step = (js(a, d) + js(b, e)) / 2
    ends_too = (js(a, f) + js(b, e) + js(c, d)) / 3
    one_sided = (to_middle(a, e) + to_middle(b, d)) / 2
    for mistake in (same_step, ends_too, one_sided):
        assert abs(found - mistake) > 0.003


def test_bidirectional_bounds():
    """Zero where the same path is walked from both ends, ln 2 where nothing overlaps."""
    states = [{c: 1.0} for c in range(3)]  # one, two and three steps from the input; at the end, the target
    path = [outcome([[state]])[0] for state in states]
    inside = outcome([[GREY]])[1]
    source, other = outcome([[{8: 1.0}]])[0], outcome([[{9: 1.0}]])[0]
    assert value(terms.bidirectional(path, [path[1], path[0], source], inside)) == 0.0
    assert value(terms.bidirectional(path, [path[0], path[1], source], inside)) == pytest.approx(log(2))
    assert value(terms.bidirectional(path, [other] * 3, inside)) == pytest.approx(log(2))
    assert value(terms.bidirectional(path[:1], [other], inside)) == 0.0
    with pytest.raises(ValueError, match="forward has 3 steps and backward 2; give both the same horizon"):
        terms.bidirectional(path, path[:2], inside)


def test_anchor_by_hand():
    successes = torch.full((10,), 0.05, dtype=torch.float64)
    successes[0] = 0.55
    found = value(terms.anchor(logits(C), successes))
    hats = successes.tolist()
    assert found == pytest.approx(sum(C[c] * log(C[c] / hats[c]) for c in range(10)))
    assert abs(found - sum(hats[c] * log(hats[c] / C[c]) for c in range(10))) > 0.01  # arguments exchanged
    assert value(terms.anchor(successes.log().unsqueeze(0), successes)) == pytest.approx(0, abs=1e-12)
    assert value(terms.anchor(logits(C), None)) == 0.0


def test_alignment_by_hand():
    """(3, 4) and (4, 3): cosine 24 / 25; lengths do not count; a row of zeros is no base."""
    context = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 2.0], [5.0, 5.0]], requires_grad=True)
    features = torch.tensor([[8.0, 6.0], [-2.0, 0.0], [10.0, 20.0], [0.0, 0.0]])
    found = terms.alignment(context, features)
    assert found.tolist() == pytest.approx([1 - 24 / 25, 2.0, 0.0, 0.0], abs=1e-6)
    cosine_itself, whichever_way, lengths_counted = (24 / 25, -1.0), (1 - 24 / 25, 0.0), (1 - 48.0, 3.0)
    for mistake in (cosine_itself, whichever_way, lengths_counted):
        assert any(abs(found[t].item() - mistake[t]) > 0.05 for t in range(2))
    found.sum().backward()
    assert context.grad[3].tolist() == [0.0, 0.0]
    assert context.grad[0].abs().min() > 0
    assert context.grad.isfinite().all()


def test_reversibility_by_hand():
    q, inside = outcome([[{1: 0.5, 2: 0.5}, {3: 0.8, 4: 0.2}, PAD]])
    found = value(terms.reversibility(q, colours([[1, 4, 10]]), inside))
    assert found == pytest.approx((log(2) + log(5)) / 2)
    likeliest_instead_of_the_input = (log(2) + log(1 / 0.8)) / 2
    entropy = (log(2) + 0.8 * log(1 / 0.8) + 0.2 * log(5)) / 2
    padding_as_a_free_cell = (log(2) + log(5)) / 3
    for mistake in (likeliest_instead_of_the_input, entropy, padding_as_a_free_cell):
        assert abs(found - mistake) > 0.05
    recovered, everywhere = outcome([[{1: 1.0}, {4: 1.0}]])
    assert value(terms.reversibility(recovered, colours([[1, 4]]), everywhere)) == 0.0
