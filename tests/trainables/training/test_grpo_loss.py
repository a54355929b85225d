"""GRPO's advantages and losses: values computed by hand, and a bandit whose best policy is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from trainables.training.grpo_loss import GrpoSettings, advantages, grpo_loss, loss_figures, reward_figures

REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [2.0, 4.0, 4.0, 2.0]])
ANSWERS, PROMPTS, GROUP = torch.tensor([0.1, 0.6, 1.0]), 64, 8  # a bandit's reward for each of its three answers


@pytest.mark.parametrize(
    ("scale", "first", "second"),
    [
        ("none", 0.5, 1.0),
        ("group", 0.5 / (math.sqrt(1 / 3) + 1e-4), 1.0 / (math.sqrt(4 / 3) + 1e-4)),  # of 3 degrees of freedom
        ("batch", 0.5 / (math.sqrt(17.5 / 7) + 1e-4), 1.0 / (math.sqrt(17.5 / 7) + 1e-4)),  # squares around 1.75
    ],
)
def test_advantages(scale: Any, first: float, second: float) -> None:
    wanted = torch.tensor([[first, -first, -first, first], [-second, second, second, -second]])
    torch.testing.assert_close(advantages(REWARDS, scale), wanted)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_a_group_of_equal_rewards_has_no_advantage_at_all(scale: Any) -> None:
    """The mean of equal numbers may differ from them in the last bit; Adam would make a whole step of that."""
    equal = torch.full((1, 7), 0.1)
    assert (equal != equal.mean()).all(), "choose a number whose mean is rounded"
    assert advantages(equal, scale).tolist() == [[0.0] * 7]
    assert advantages(torch.cat([equal, torch.arange(7.0)[None]]), scale)[0].tolist() == [0.0] * 7


def test_figures_of_rewards() -> None:
    figures = reward_figures(torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 0.0], [1.0, 1.0]]))
    assert figures == pytest.approx({"reward": 0.5, "reward_std": math.sqrt(1.5 / 7), "frac_reward_zero_std": 0.75})


def example(loss_type: Any, **others: Any) -> tuple[Any, ...]:
    """Two completions of two and three tokens. Ratios: 1.5 (clipped to 1.2), 1 | 0.5 (clipped to 0.8), 1, 1.1."""
    old = torch.tensor([[-1.0, -2.0, 0.0], [-1.0, -1.0, -1.0]])
    ratios = torch.tensor([[1.5, 1.0, 1.0], [0.5, 1.0, 1.1]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    settings = GrpoSettings(loss_type, num_generations=2, max_completion_length=5, **others)
    return old + ratios.log(), old, old + math.log(2), torch.tensor([1.0, -2.0]), mask, settings


@pytest.mark.parametrize(
    ("loss_type", "wanted"),
    [
        ("grpo", ((-1.2 - 1) / 2 + (1.6 + 2 + 2.2) / 3) / 2),
        ("dr_grpo", (-2.2 + 5.8) / (2 * 5)),
        ("dapo", (-2.2 + 5.8) / 5),
        ("gspo", (-1.2 + 2 * max(0.8, 0.55 ** (1 / 3))) / 2),  # the ratios' geometric means: 1.5^(1/2), 0.55^(1/3)
    ],
)
def test_losses(loss_type: Any, wanted: float) -> None:
    assert float(grpo_loss(*example(loss_type))) == pytest.approx(wanted)


def test_the_upper_clip_may_differ_and_tokens_be_those_of_a_whole_step() -> None:
    assert float(grpo_loss(*example("dapo", epsilon_high=0.4))) == pytest.approx((-1.4 - 1 + 5.8) / 5)
    assert float(grpo_loss(*example("dapo"), tokens_of_batch=12)) == pytest.approx(3.6 / 12)


def test_clipped_shares_and_the_divergence() -> None:
    arguments = example("dapo", beta=0.5)
    apart = [2 / 1.5, 2.0, 4.0, 2.0, 2 / 1.1]  # the reference's probability over the policy's
    kl = [ratio * (d - math.log(d) - 1) for ratio, d in zip([1.5, 1, 0.5, 1, 1.1], apart, strict=True)]
    figures = loss_figures(*arguments)
    assert figures == pytest.approx(
        {"clip_ratio/low_mean": 0.2, "clip_ratio/high_mean": 0.2, "clip_ratio/region_mean": 0.4, "kl": sum(kl) / 5}
    )
    assert float(grpo_loss(*arguments)) == pytest.approx((3.6 + 0.5 * sum(kl)) / 5)
    logprobs, old, reference, own, *others = arguments
    assert loss_figures(logprobs, old, reference, -own, *others)["clip_ratio/region_mean"] == 0  # they move back


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo", "gspo"])
def test_what_is_masked_does_not_matter(loss_type: Any) -> None:
    """Neither padding that would overflow nor a completion of which nothing counts."""
    logprobs, old, reference, own, mask, settings = example(loss_type, beta=0.5)
    logprobs.requires_grad_()
    wanted = torch.autograd.grad(grpo_loss(logprobs, old, reference, own, mask, settings), logprobs)
    old[0, 2], reference[0, 2] = -1e4, math.nan
    loss = grpo_loss(logprobs, old, reference, own, mask, settings)
    torch.testing.assert_close(torch.autograd.grad(loss, logprobs), wanted, rtol=0, atol=0)
    nothing = grpo_loss(logprobs, old, reference, own, mask * 0, settings)
    assert float(nothing.detach()) == 0
    assert not torch.autograd.grad(nothing, logprobs)[0].any()


def policy_after(steps: int, settings: GrpoSettings, iterations: int = 1) -> Tensor:
    """Train a policy of three logits on the bandit, from equal probabilities, and return its mean over late steps."""
    generator = torch.Generator().manual_seed(0)
    logits, late = torch.zeros(3, requires_grad=True), torch.zeros(3)
    optimizer = torch.optim.Adam([logits], lr=0.03)
    reference = torch.full((PROMPTS * GROUP, 1), math.log(1 / 3))
    for step in range(steps):
        drawn = torch.multinomial(logits.detach().softmax(0), PROMPTS * GROUP, True, generator=generator)
        own = advantages(ANSWERS[drawn].view(PROMPTS, GROUP), settings.scale_rewards).flatten()
        old = logits.detach().log_softmax(0)[drawn, None]
        for _ in range(iterations):
            logprobs = logits.log_softmax(0)[drawn, None]
            optimizer.zero_grad()
            grpo_loss(logprobs, old, reference, own, torch.ones_like(logprobs), settings).backward()
            optimizer.step()
        if step >= steps // 2:
            late += logits.detach().softmax(0) / (steps - steps // 2)
    return late


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo", "gspo"])
def test_a_bandit_learns_its_best_answer(loss_type: Any) -> None:
    settings = GrpoSettings(loss_type, num_generations=GROUP, max_completion_length=1)
    assert policy_after(200, settings, iterations=2)[2] > 0.95


@pytest.mark.parametrize("iterations", [1, 4])
@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_with_a_divergence_the_bandits_optimum_is_gibbs(beta: float, iterations: int) -> None:
    """Best is the reference times exp(reward / beta). A group's mean holds the completion itself, which takes one part
    in GROUP from its advantage."""
    settings = GrpoSettings("grpo", scale_rewards="none", beta=beta, num_generations=GROUP)
    wanted = ((1 - 1 / GROUP) * ANSWERS / beta).softmax(0)
    torch.testing.assert_close(policy_after(400, settings, iterations), wanted, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss_type": "ppo"}, r"loss_type is 'ppo'; use one of grpo, dr_grpo, dapo, gspo"),
        ({"scale_rewards": True}, r"scale_rewards is True; use one of group, batch, none"),
        ({"num_generations": 1}, r"num_generations is 1; a group needs at least 2"),
        ({"num_iterations": 0}, r"num_iterations is 0; it must be at least 1"),
        ({"epsilon": 1.0}, r"epsilon is 1.0; it must be above 0 and below 1"),
        ({"epsilon_high": -0.1}, r"epsilon_high is -0.1; it must be a finite number above 0"),
        ({"temperature": math.inf}, r"temperature is inf; it must be a finite number above 0"),
        ({"beta": math.nan}, r"beta is nan; it must be a finite number of at least 0"),
        ({"top_p": 0.0}, r"top_p is 0.0; it must be above 0 and at most 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        GrpoSettings(**values)


def test_arguments_that_cannot_work_are_refused() -> None:
    logprobs, old, _, *others = example("grpo", beta=0.5)
    with pytest.raises(ValueError, match=r"beta is 0\.5 without reference_logprobs"):
        grpo_loss(logprobs, old, None, *others)
    with pytest.raises(ValueError, match=r"shape \(3, 1\)"):
        advantages(torch.ones(3, 1), "group")
