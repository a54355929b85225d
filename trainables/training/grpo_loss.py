"""GRPO's advantages and losses, as pure functions of rewards and of the log-probabilities of sampled tokens.

GRPO (Shao et al. 2024, arXiv 2402.03300), Dr. GRPO (Liu et al. 2025, arXiv 2503.20783), DAPO (Yu et al. 2025, arXiv
2503.14476) and GSPO (Zheng et al. 2025, arXiv 2507.18071), as the GRPOTrainer of TRL 1.16 computes them.

Shapes: P prompts with G completions each (`num_generations`); N completions in a micro-batch, padded to T tokens. A
log-probability is that of one sampled token, in nats, under the softmax of logits / `temperature`; `top_p` restricts
what is sampled, not what is scored. `logprobs` have gradients; `old_logprobs` are those of the policy that sampled, and
`reference_logprobs` those of the untouched base. `mask` is 1.0 for tokens that count: none of the padding, and none of
a completion that was cut off if those are not to be learned (TRL's `mask_truncated_completions`).

Only methods of tensors are used, so that a trial's own process can import the settings without torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from torch import Tensor

LossType = Literal["grpo", "dr_grpo", "dapo", "gspo"]
ScaleRewards = Literal["group", "batch", "none"]
SMALLEST_STD = 1e-4  # is added to a standard deviation that divides


@dataclass(frozen=True)
class GrpoSettings:
    """TRL's names and defaults, except that its `importance_sampling_level="sequence"` is the loss type `gspo`.

    `num_iterations`, `num_generations` and `top_p` are for whoever samples. Raises ValueError for what cannot work.
    """

    loss_type: LossType = "dapo"
    epsilon: float = 0.2  # ratios below 1 - epsilon are clipped; gspo's are near 1, its paper has 3e-4
    epsilon_high: float | None = None  # ratios above 1 + epsilon_high are clipped; None: epsilon
    beta: float = 0.0  # weight of the KL divergence to the untouched base
    scale_rewards: ScaleRewards = "group"  # whose standard deviation divides advantages
    num_generations: int = 8  # completions of each prompt: a group
    num_iterations: int = 1  # times that the same completions are trained on
    temperature: float = 1.0  # logits are divided by it, in sampling and in training
    top_p: float = 1.0  # only the likeliest tokens that together have this probability are sampled
    max_completion_length: int = 512  # tokens

    def __post_init__(self) -> None:
        for name, allowed in (("loss_type", LossType), ("scale_rewards", ScaleRewards)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} is {getattr(self, name)!r}; use one of {', '.join(get_args(allowed))}")
        if self.num_generations < 2:
            raise ValueError(
                f"num_generations is {self.num_generations}; a group needs at least 2 completions, as each is compared "
                "with the others"
            )
        for name in ("num_iterations", "max_completion_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.epsilon < 1:
            raise ValueError(f"epsilon is {self.epsilon}; it must be above 0 and below 1")
        for name in ("epsilon_high", "temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}; it must be a finite number above 0")
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta is {self.beta}; it must be a finite number of at least 0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be above 0 and at most 1")

    @property
    def clip(self) -> tuple[float, float]:
        """The lowest and the highest ratio that is not clipped."""
        return 1 - self.epsilon, 1 + (self.epsilon if self.epsilon_high is None else self.epsilon_high)


def advantages(rewards: Tensor, scale_rewards: ScaleRewards) -> Tensor:
    """Return how much better each completion is than its group's mean, (P, G), divided by a standard deviation.

    That of the group, of all rewards ("batch"), or none. A group of equal rewards has exact zeros: TRL has what
    rounding leaves, which Adam would scale up to a whole step. Raises ValueError for groups of one completion.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"rewards have the shape {tuple(rewards.shape)}; give prompts x at least 2 completions")
    above = (rewards - rewards.mean(1, keepdim=True)).masked_fill(_is_equal(rewards), 0.0)
    if scale_rewards == "none":
        return above
    spread = rewards.std(1, keepdim=True) if scale_rewards == "group" else rewards.std()
    return above / (spread + SMALLEST_STD)


def reward_figures(rewards: Tensor) -> dict[str, float]:
    """Return, under TRL's names, the mean of rewards (P, G), their standard deviation, and the share of groups with
    equal rewards, which give no gradient."""
    equal = _is_equal(rewards).double().mean()
    return {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        "frac_reward_zero_std": float(equal),
    }


def _is_equal(rewards: Tensor) -> Tensor:
    """Return whether all rewards of a group are the same, (P, 1)."""
    return (rewards == rewards[:, :1]).all(1, keepdim=True)


def grpo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    reference_logprobs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    settings: GrpoSettings,
    tokens_of_batch: float | None = None,
) -> Tensor:
    """Return the loss of a micro-batch of N completions, a scalar. All are (N, T), advantages (N,).

    The losses of a step's micro-batches, each times its share of the step, add up to TRL's: the share of tokens that
    count for dapo, of completions for the others. With `tokens_of_batch`, the number of tokens that count in the whole
    step, dapo's add up as they are (if several steps share a generation, TRL gives each their mean).

    Raises ValueError if beta needs reference log-probabilities that are missing.
    """
    losses = token_losses(logprobs, old_logprobs, reference_logprobs, advantages, mask, settings) * mask
    if settings.loss_type == "dapo":
        return losses.sum() / (mask.sum().clamp(min=1.0) if tokens_of_batch is None else max(tokens_of_batch, 1.0))
    if settings.loss_type == "dr_grpo":
        return losses.sum() / (len(losses) * settings.max_completion_length)
    return (losses.sum(1) / mask.sum(1).clamp(min=1.0)).mean()


def token_losses(
    logprobs: Tensor,
    old_logprobs: Tensor,
    reference_logprobs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    settings: GrpoSettings,
) -> Tensor:
    """Return -min(ratio x advantage, clipped ratio x advantage) + beta x KL of each token, (N, T), nats.

    With gspo's one ratio for each completion and no beta, all tokens of a completion have the same.
    """
    parts = _parts(logprobs, old_logprobs, reference_logprobs, mask, settings)
    own = advantages[:, None]
    losses = -(parts.ratio * own).minimum(parts.ratio.clamp(*settings.clip) * own)
    if settings.beta:
        if parts.kl is None:
            raise ValueError(f"beta is {settings.beta} without reference_logprobs; give those of the base, or beta 0")
        losses = losses + settings.beta * parts.kl
    return losses.expand_as(mask)


def loss_figures(
    logprobs: Tensor,
    old_logprobs: Tensor,
    reference_logprobs: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    settings: GrpoSettings,
) -> dict[str, float]:
    """Return, under TRL's names, the shares of clipped tokens (gspo: completions), and `kl` to the reference if there
    is one, in nats per token."""
    detached = None if reference_logprobs is None else reference_logprobs.detach()
    parts = _parts(logprobs.detach(), old_logprobs, detached, mask, settings)
    (lowest, highest), own = settings.clip, advantages[:, None]
    low, high = (parts.ratio < lowest) & (own < 0), (parts.ratio > highest) & (own > 0)
    found = {"low": low, "high": high, "region": low | high}
    figures = {f"clip_ratio/{name}_mean": _mean(clipped.to(mask.dtype), mask) for name, clipped in found.items()}
    return figures if parts.kl is None else figures | {"kl": _mean(parts.kl, mask)}


def _mean(values: Tensor, mask: Tensor) -> float:
    """Return the mean over tokens that count, or of (N, 1) over completions."""
    if values.shape != mask.shape:
        return float(values.mean())
    return float((values * mask).sum() / mask.sum().clamp(min=1.0))


class _Parts(NamedTuple):
    ratio: Tensor  # of the policy's probability to that of the policy that sampled: (N, T), or (N, 1) of completions
    kl: Tensor | None  # to the reference, (N, T)


def _parts(
    logprobs: Tensor, old_logprobs: Tensor, reference_logprobs: Tensor | None, mask: Tensor, settings: GrpoSettings
) -> _Parts:
    """Return what loss and figures are made of. What is masked is set to 0 first, so that no overflow there matters.

    The KL divergence is Schulman's estimate exp(d) - d - 1, d = reference - policy, times the ratio, which makes its
    gradient unbiased off-policy (TRL's `use_bias_correction_kl`, its default).
    """
    gone = mask == 0
    log_ratio = (logprobs - old_logprobs).masked_fill(gone, 0.0)
    if settings.loss_type == "gspo":
        log_ratio = log_ratio.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1.0)
    ratio = log_ratio.exp()
    if reference_logprobs is None:
        return _Parts(ratio, None)
    apart = (reference_logprobs - logprobs).masked_fill(gone, 0.0)
    return _Parts(ratio, (apart.exp() - apart - 1) * ratio)
