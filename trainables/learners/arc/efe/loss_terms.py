"""The terms of `efe`'s loss, as pure functions, for many ARC tasks at once.

Risk and ambiguity: Friston et al. 2015, "Active inference and epistemic value". The other terms shorten the horizon,
make the forward and the backward model agree, and tie the preference and the context to solved tasks and to a language
model's features.

Shapes: T tasks, N grids of a task, 10 colours, H x W cells. An outcome is (T, N, 10, H, W) log-probabilities over the
colours. `inside` (T, N, H, W) is False for padding, whose cells never count. A trajectory is a list of K >= 1 outcomes,
one for each step. Every term is (T,), and a task's term depends on that task alone. Unless a docstring says otherwise,
a term is in nats and is the mean over all inside cells of the task; a task without any has the term 0. Probabilities
are clamped at the smallest normal number (-87 nats in float32) before their logarithm, so zeros give no NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.tasks.arc.grids import COLOURS


def cross_entropy(outcome: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Return -log q(target), with `target` (T, N, H, W) int64; infinite where the target has probability 0.

    Equals `F.cross_entropy` with `ignore_index` for each task. Zero if the target is predicted with certainty.
    """
    colours = torch.where(inside, target, 0).unsqueeze(2)  # padding has no valid colour index
    return _mean(-outcome.gather(2, colours).squeeze(2), inside)


def risk(outcome: Tensor, preference: Tensor, inside: Tensor) -> Tensor:
    """Return KL(Q || C), the mean over grids: Q is a grid's mean predicted colour distribution, C =
    softmax(`preference`).

    `preference` (T, 10) are finite logits. They get no gradient, so the preference does not adapt to the outcomes.
    Zero if every grid's Q equals C.
    """
    preferred = preference.detach().log_softmax(1).unsqueeze(1)  # (T, 1, 10)
    return _mean_grids(_kl(_grid_colours(outcome.exp(), inside), preferred), inside)


def preference_fit(preference: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Return KL(H || C), the loss of C = softmax(`preference`); H is the mean of the target grids' colour histograms.

    The gradient at the logits is C - H. Zero if C equals H.
    """
    colours = F.one_hot(torch.where(inside, target, 0), COLOURS).movedim(-1, 2).to(preference.dtype)
    histogram = _mean_grids(_grid_colours(colours, inside), inside)  # (T, 10)
    return _kl(histogram, preference.log_softmax(1))


def ambiguity(outcome: Tensor, inside: Tensor) -> Tensor:
    """Return the entropy of a cell's prediction: zero if certain, ln 10 if all colours are equally likely."""
    predicted = outcome.exp()
    return _mean(-(predicted * _log(predicted)).sum(2), inside)


def step(trajectory: Sequence[Tensor], inside: Tensor) -> Tensor:
    """Return the expected share, in [0, 1], of the steps before the last at which a cell has not its final colour.

    It is the mean over those steps of 1 - sum_c q_t(c) q_K(c). The last step's q_K gets no gradient, so earlier steps
    move towards the last one and not the reverse. Zero exactly if every cell is certain and has its final colour from
    the first step on; an outcome that is reached at once but is uncertain costs 1 - sum_c q(c)^2. Zero if K = 1.
    """
    final = trajectory[-1].detach().exp()
    late = [_mean(1 - (outcome.exp() * final).sum(2), inside) for outcome in trajectory[:-1]]
    return torch.stack(late).mean(0) if late else final.new_zeros(len(final))


def bidirectional(forward: Sequence[Tensor], backward: Sequence[Tensor], inside: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of two trajectories, the mean over the K - 1 states between the ends.

    forward[t] has gone t + 1 of the K steps from the input. backward starts at the target and ends at the input, so
    backward[s] lies K - 1 - s steps from the input. Hence forward[t] is compared with backward[K - 2 - t], t = 0 to
    K - 2. The last outcomes are compared with the target and the input by other terms.

    Only `forward` gets a gradient. Zero if they agree, at most ln 2 (Lin 1991); zero if K = 1.
    Raises ValueError if the trajectories differ in length.
    """
    steps = len(forward)
    if len(backward) != steps:
        raise ValueError(f"forward has {steps} steps and backward {len(backward)}; give both the same horizon")
    apart = [_mean(_js(forward[t], backward[steps - 2 - t].detach()), inside) for t in range(steps - 1)]
    return torch.stack(apart).mean(0) if apart else forward[-1].new_zeros(len(inside))


def anchor(preference: Tensor, successes: Tensor | None) -> Tensor:
    """Return KL(C || mean of the successes) per task, not per cell; C = softmax(`preference`), (T, 10) logits.

    `successes`, (10,) or (T, 10) probabilities, is the mean preference of the other tasks solved so far. It gets no
    gradient. If there are none, it is None or a row of zeros, and the term is 0. Zero if C equals it.
    """
    if successes is None:
        return preference.new_zeros(len(preference))
    known = successes.detach().expand_as(preference)
    return torch.where(known.any(1), _kl(preference.softmax(1), _log(known)), 0.0)


def alignment(context: Tensor, features: Tensor) -> Tensor:
    """Return 1 - cosine of a task's `context` and its `features`, (T, D) each: 0 if aligned, 2 if opposed; no unit.

    `features` of a frozen base get no gradient. A row of zeros (no base) has the term 0 and gives no gradient.
    """
    features = features.detach()
    return torch.where(features.any(1), 1 - F.cosine_similarity(context, features, dim=1), 0.0)


def reversibility(returned: Tensor, source: Tensor, inside: Tensor) -> Tensor:
    """Return the cross-entropy of the recovered input: zero if the input is recovered with certainty.

    `returned` is the backward model's last outcome for the forward model's own prediction, `source` (T, N, H, W) int64
    the input. Both models get the gradient, so that an outcome keeps the information that leads back.
    """
    return cross_entropy(returned, source, inside)


def _mean(values: Tensor, inside: Tensor) -> Tensor:
    """Return the mean of (T, N, H, W) over the inside cells, (T,)."""
    return torch.where(inside, values, 0).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1)


def _grid_colours(predicted: Tensor, inside: Tensor) -> Tensor:
    """Return each grid's mean probabilities over its inside cells, (T, N, 10, H, W) to (T, N, 10); zeros if none."""
    total = torch.where(inside.unsqueeze(2), predicted, 0).sum((3, 4))
    return total / inside.sum((2, 3)).clamp(min=1).unsqueeze(2)


def _mean_grids(values: Tensor, inside: Tensor) -> Tensor:
    """Return the mean of (T, N) or (T, N, 10) over grids that have cells; the other grids must be zero."""
    grids = inside.any(3).any(2).sum(1).clamp(min=1)
    return values.sum(1) / grids.view(-1, *[1] * (values.dim() - 2))


def _js(p_log: Tensor, q_log: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence over the colours, (T, N, 10, H, W) each, as (T, N, H, W)."""
    p, q = p_log.exp(), q_log.exp()
    middle = _log((p + q) / 2)
    return (_kl(p, middle, 2) + _kl(q, middle, 2)) / 2


def _kl(p: Tensor, q_log: Tensor, dim: int = -1) -> Tensor:
    """Return KL(p || q), p as probabilities (0 if all are zero) and q as logarithms."""
    return (p * (_log(p) - q_log)).sum(dim)


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()
