"""The terms of the loss of `efe`, an agent that minimises expected free energy on many ARC tasks at once.

Risk and ambiguity: Friston et al. 2015, "Active inference and epistemic value". The others keep a horizon short, make a
forward and a backward model agree, and tie what is learned to solved problems and to a language model's reading.

Shapes: T tasks, N grids of a task, 10 colours, H x W cells. An outcome is (T, N, 10, H, W) log-probabilities over the
colours; `inside` is (T, N, H, W), False for padding, whose cells never count, whatever is predicted there; a trajectory
is a list of K >= 1 outcomes, the last step last. Every term is (T,), and a task's term depends on that task alone. In
nats, unless said otherwise, and a mean over all inside cells of the task, unless said otherwise; a task without any has
the term 0. The logarithm of a probability stops at the smallest normal number (-87 nats in float32), so zeros make no
NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.tasks.arc.grids import COLOURS


def cross_entropy(outcome: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """-log q(target), with `target` (T, N, H, W) int64; infinite where the target was held to be impossible.

    Equals `F.cross_entropy` with `ignore_index` for each task. Zero when the target is predicted with certainty.
    """
    colours = torch.where(inside, target, 0).unsqueeze(2)  # padding is no colour
    return _mean(-outcome.gather(2, colours).squeeze(2), inside)


def risk(outcome: Tensor, preference: Tensor, inside: Tensor) -> Tensor:
    """KL(Q || C), mean over grids: Q is a grid's mean predicted colour distribution, C = softmax(`preference`).

    `preference` (T, 10) holds finite logits and gets no gradient: what is preferred is not bent towards what happens.
    Zero when every grid's Q equals C.
    """
    preferred = preference.detach().log_softmax(1).unsqueeze(1)  # (T, 1, 10)
    return _mean_grids(_kl(_grid_colours(outcome.exp(), inside), preferred), inside)


def preference_fit(preference: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """KL(H || C): how C = softmax(`preference`) is learned; H is the mean of the target grids' colour histograms.

    The gradient at the logits is C - H. Zero when C equals H.
    """
    colours = F.one_hot(torch.where(inside, target, 0), COLOURS).movedim(-1, 2).to(preference.dtype)
    histogram = _mean_grids(_grid_colours(colours, inside), inside)  # (T, 10)
    return _kl(histogram, preference.log_softmax(1))


def ambiguity(outcome: Tensor, inside: Tensor) -> Tensor:
    """Entropy of a cell's prediction: zero when certain, ln 10 when every colour is as likely."""
    predicted = outcome.exp()
    return _mean(-(predicted * _log(predicted)).sum(2), inside)


def step(trajectory: Sequence[Tensor], inside: Tensor) -> Tensor:
    """The expected share, in [0, 1], of the steps before the last at which a cell is not yet what it ends as.

    The mean over those steps of 1 - sum_c q_t(c) q_K(c). The last step's q_K gets no gradient: earlier steps move to
    where the horizon ends, not the end to where they are. Zero exactly when every cell is certain and has its final
    colour from the first step on; an outcome that is there at once but is unsure costs 1 - sum_c q(c)^2. Zero if K = 1.
    """
    final = trajectory[-1].detach().exp()
    late = [_mean(1 - (outcome.exp() * final).sum(2), inside) for outcome in trajectory[:-1]]
    return torch.stack(late).mean(0) if late else final.new_zeros(len(final))


def bidirectional(forward: Sequence[Tensor], backward: Sequence[Tensor], inside: Tensor) -> Tensor:
    """Jensen-Shannon divergence between two trajectories where they meet, mean over the K - 1 states between the ends.

    forward[t] has gone t + 1 of the K steps from the input; backward starts at the target and ends at the input, so
    backward[s] lies K - 1 - s steps from the input. Hence forward[t] meets backward[K - 2 - t], t = 0 to K - 2. The
    last outcomes meet nobody: their ends are the target and the input themselves.

    Only `forward` gets a gradient. Zero when they agree, at most ln 2 (Lin 1991); zero if K = 1.
    Raises ValueError when the trajectories differ in length.
    """
    steps = len(forward)
    if len(backward) != steps:
        raise ValueError(f"forward has {steps} steps and backward {len(backward)}; give both the same horizon")
    apart = [_mean(_js(forward[t], backward[steps - 2 - t].detach()), inside) for t in range(steps - 1)]
    return torch.stack(apart).mean(0) if apart else forward[-1].new_zeros(len(inside))


def anchor(preference: Tensor, successes: Tensor | None) -> Tensor:
    """KL(C || mean of the successes), C = softmax(`preference`), (T, 10) logits; of the whole task, not per cell.

    `successes` (10,) or (T, 10) probabilities, the mean preference of the other problems solved so far, gets no
    gradient; None, or a task's row of zeros, when there are none, gives 0. Zero when C equals it.
    """
    if successes is None:
        return preference.new_zeros(len(preference))
    known = successes.detach().expand_as(preference)
    return torch.where(known.any(1), _kl(preference.softmax(1), _log(known)), 0.0)


def alignment(context: Tensor, features: Tensor) -> Tensor:
    """1 - cosine of the angle between a task's `context` and its `features`, (T, D) each: 0 aligned, 2 opposed.

    No unit. `features`, a frozen base's, get no gradient; a row of zeros (no base) has the term 0 and gives none.
    """
    features = features.detach()
    return torch.where(features.any(1), 1 - F.cosine_similarity(context, features, dim=1), 0.0)


def reversibility(returned: Tensor, source: Tensor, inside: Tensor) -> Tensor:
    """Cross-entropy of the way back with the input: zero when the input is recovered with certainty.

    `returned` is the backward model's last outcome when it has read the forward model's own prediction, `source`
    (T, N, H, W) int64 the input. Both models get the gradient: an outcome must keep what leads back.
    """
    return cross_entropy(returned, source, inside)


def _mean(values: Tensor, inside: Tensor) -> Tensor:
    """(T, N, H, W) -> (T,), over the inside cells."""
    return torch.where(inside, values, 0).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1)


def _grid_colours(predicted: Tensor, inside: Tensor) -> Tensor:
    """Probabilities (T, N, 10, H, W) -> each grid's mean over its inside cells (T, N, 10); zeros where it has none."""
    total = torch.where(inside.unsqueeze(2), predicted, 0).sum((3, 4))
    return total / inside.sum((2, 3)).clamp(min=1).unsqueeze(2)


def _mean_grids(values: Tensor, inside: Tensor) -> Tensor:
    """(T, N) or (T, N, 10), zero for grids without cells -> the mean over those that have some."""
    grids = inside.any(3).any(2).sum(1).clamp(min=1)
    return values.sum(1) / grids.view(-1, *[1] * (values.dim() - 2))


def _js(p_log: Tensor, q_log: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the colours, (T, N, 10, H, W) each -> (T, N, H, W)."""
    p, q = p_log.exp(), q_log.exp()
    middle = _log((p + q) / 2)
    return (_kl(p, middle, 2) + _kl(q, middle, 2)) / 2


def _kl(p: Tensor, q_log: Tensor, dim: int = -1) -> Tensor:
    """KL(p || q), p as probabilities (all zero: 0) and q as logarithms."""
    return (p * (_log(p) - q_log)).sum(dim)


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()
