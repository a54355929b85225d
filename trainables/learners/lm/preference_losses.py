"""Losses that prefer one completion of a prompt to another, as pure functions of sequence log-probabilities.

DPO (Rafailov et al. 2023, arXiv 2305.18290), Cal-DPO (Xiao et al. 2024, arXiv 2412.14516) and Dr. DPO (Wu et al. 2024,
arXiv 2407.07880), as in the papers.

Shapes: B pairs. A log-probability is that of a whole completion, summed over its label tokens, in nats; the reference
is the untouched base. A log ratio is the difference of the two; DPO calls beta times it the reward. A learner's loss is
`mean(dpo(*sums_of_pairs(logprobs), reference_chosen, reference_rejected, beta))`, or `dr_dpo` for `mean`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def sums_of_pairs(logprobs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the summed log-probabilities of chosen and rejected completions, (B,) each.

    `logprobs`: the label tokens' log-probabilities (1-D) of rows chosen, rejected, chosen, ... Raises ValueError for an
    odd number of rows.
    """
    if not logprobs or len(logprobs) % 2:
        raise ValueError(f"{len(logprobs)} rows are no pairs; give them as chosen, rejected, chosen, rejected ...")
    sums = torch.stack([row.sum() for row in logprobs])
    return sums[0::2], sums[1::2]


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return -log sigma(beta (h_w - h_l)) per pair, h the log ratios of chosen (w) and rejected (l): (B,), nats.

    `label_smoothing` in [0, 0.5) is the probability that a pair is labelled the wrong way round (conservative DPO,
    Mitchell 2023): the loss is the expectation over both ways. Raises ValueError for a beta that is not above 0.
    """
    _check_positive("beta", beta)
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}; it is the share of swapped pairs, in [0, 0.5)")
    margins = beta * ((chosen - reference_chosen) - (rejected - reference_rejected))
    return -(1 - label_smoothing) * logsigmoid(margins) - label_smoothing * logsigmoid(-margins)


def cal_dpo(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> Tensor:
    """Return -log sigma(h_w - h_l) + (h_w - 1/(2 beta))^2 + (h_l + 1/(2 beta))^2 per pair, h the log ratios: (B,).

    Equation 10 and the pseudocode of the paper: beta occurs only in the two targets, neither inside the sigmoid nor
    before the squares. The squares are in nats squared: at beta 0.1 an untrained pair costs 50, so losses and gradients
    are far larger than DPO's. Raises ValueError for a beta that is not above 0.
    """
    _check_positive("beta", beta)
    h_w, h_l, target = chosen - reference_chosen, rejected - reference_rejected, 0.5 / beta
    return -logsigmoid(h_w - h_l) + (h_w - target).square() + (h_l + target).square()


def mean(losses: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean of the losses (B,), each times its weight.

    Weights (B,), above 0, are not divided by their sum, so a single pair keeps its weight. If they average 1 over the
    training split, the scale of the loss does not change.
    """
    return losses.mean() if weights is None else (weights * losses).mean()


def dr_dpo(losses: Tensor, beta_prime: float, weights: Tensor | None = None) -> Tensor:
    """Return -beta' log E exp(-loss / beta') over the micro-batch (B,), a scalar of at most `mean`.

    Pairs with a high loss, often mislabelled ones, count less, and the less the smaller beta' is; at infinity the
    result is the mean. E is over pairs in proportion to `weights`, and the result is scaled by their average, as `mean`
    is. With one pair it equals the mean, so use several in a micro-batch. Raises ValueError for a beta' that is not
    above 0.
    """
    _check_positive("beta_prime", beta_prime, finite=False)
    if math.isinf(beta_prime):
        return mean(losses, weights)
    scale = torch.ones_like(losses) if weights is None else weights
    lowest = losses.detach().min()  # any shift cancels out; with this one nothing overflows
    spread = torch.expm1((lowest - losses) / beta_prime)  # in (-1, 0], exact where beta' is large
    return scale.mean() * (lowest - beta_prime * torch.log1p((scale * spread).sum() / scale.sum()))


def beta_at(step: int, beta: float, beta_start: float, beta_warmup_steps: int) -> float:
    """Return beta after `step` optimizer steps: linear from `beta_start` at step 0 to `beta` at the end of the
    warm-up."""
    done = min(1.0, step / beta_warmup_steps) if beta_warmup_steps > 0 else 1.0
    return beta_start * (1 - done) + beta * done


@torch.no_grad()
def reward_metrics(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> dict[str, float]:
    """Return means over the pairs, under TRL's names: `rewards/chosen`, `rewards/rejected` and `rewards/margins` (beta
    times log ratios, nats), `rewards/accuracies` (share of pairs whose chosen reward is higher; a tie does not count),
    `logps/chosen` and `logps/rejected` (nats per completion)."""
    of_chosen, of_rejected = beta * (chosen - reference_chosen), beta * (rejected - reference_rejected)
    found = {
        "rewards/chosen": of_chosen,
        "rewards/rejected": of_rejected,
        "rewards/margins": of_chosen - of_rejected,
        "rewards/accuracies": (of_chosen > of_rejected).to(of_chosen),
        "logps/chosen": chosen,
        "logps/rejected": rejected,
    }
    return dict(zip(found, torch.stack([*found.values()]).mean(1).tolist(), strict=True))


def _check_positive(name: str, value: float, finite: bool = True) -> None:
    if not value > 0 or (finite and math.isinf(value)):
        raise ValueError(f"{name} is {value}; it must be {'a finite number ' if finite else ''}above 0")
