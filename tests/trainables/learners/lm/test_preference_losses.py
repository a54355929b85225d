"""Preference losses: values computed by hand, and what each loss promises. `test_preference_trl.py` asks TRL."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainables.learners.lm.preference_losses import beta_at, cal_dpo, dpo, dr_dpo, mean, reward_metrics, sums_of_pairs

CHOSEN, REJECTED = torch.tensor([-2.0, -6.0]), torch.tensor([-5.0, -3.0])
REFERENCE = torch.tensor([-3.0, -5.0]), torch.tensor([-4.0, -4.0])  # log ratios: 1, -1 and -1, 1


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_dpo_by_hand() -> None:
    found = dpo(CHOSEN, REJECTED, *REFERENCE, beta=0.5)
    assert found.tolist() == pytest.approx([softplus(-1), softplus(1)])  # margins of 2 and -2 nats, times 0.5


def test_label_smoothing_by_hand() -> None:
    found = dpo(CHOSEN, REJECTED, *REFERENCE, beta=0.5, label_smoothing=0.1)
    right, wrong = softplus(-1), softplus(1)
    assert found.tolist() == pytest.approx([0.9 * right + 0.1 * wrong, 0.9 * wrong + 0.1 * right])


def test_cal_dpo_by_hand() -> None:
    """beta 0.25: targets of 2 and -2 nats. No beta in the sigmoid: margins of 2 and -2."""
    found = cal_dpo(CHOSEN, REJECTED, *REFERENCE, beta=0.25)
    assert found.tolist() == pytest.approx([softplus(-2) + 1 + 1, softplus(2) + 9 + 9])


def test_dr_dpo_by_hand() -> None:
    expected = -2 * math.log((math.exp(-0.5) + math.exp(-2)) / 2)
    assert dr_dpo(torch.tensor([1.0, 4.0]), 2.0).item() == pytest.approx(expected)
    weighted = -2 * math.log((3 * math.exp(-0.5) + math.exp(-2)) / 4)  # E in proportion to 3 and 1, scaled by 2
    assert dr_dpo(torch.tensor([1.0, 4.0]), 2.0, torch.tensor([3.0, 1.0])).item() == pytest.approx(2 * weighted)


def test_weights_by_hand() -> None:
    assert mean(torch.tensor([1.0, 4.0])).item() == 2.5
    assert mean(torch.tensor([1.0, 4.0]), torch.tensor([1.5, 0.5])).item() == pytest.approx(1.75)
    assert mean(torch.tensor([4.0]), torch.tensor([0.5])).item() == 2.0  # a pair alone keeps its weight
    assert dr_dpo(torch.tensor([4.0]), 0.3, torch.tensor([0.5])).item() == pytest.approx(2.0)


def test_rows_come_as_pairs() -> None:
    rows = [torch.tensor([-1.0, -2.0]), torch.tensor([-4.0]), torch.tensor([-8.0]), torch.tensor([-16.0, -32.0, -64.0])]
    chosen, rejected = sums_of_pairs(rows)
    assert chosen.tolist() == [-3.0, -8.0]
    assert rejected.tolist() == [-4.0, -112.0]
    with pytest.raises(ValueError, match="3 rows are no pairs"):
        sums_of_pairs(rows[:3])
    with pytest.raises(ValueError, match="0 rows"):
        sums_of_pairs([])


def test_beta_warms_up() -> None:
    steps = (0, 1, 2, 4, 5, 100)
    found = [beta_at(step, beta=0.1, beta_start=0.05, beta_warmup_steps=4) for step in steps]
    assert found == pytest.approx([0.05, 0.0625, 0.075, 0.1, 0.1, 0.1])
    assert beta_at(0, beta=0.1, beta_start=0.05, beta_warmup_steps=0) == 0.1


def test_metrics_by_hand() -> None:
    chosen, rejected = torch.tensor([-2.0, -6.0, -1.0]), torch.tensor([-5.0, -3.0, -1.0])
    reference = torch.tensor([-3.0, -5.0, -1.0]), torch.tensor([-4.0, -4.0, -1.0])
    assert reward_metrics(chosen + 1, rejected, *reference, beta=0.5) == pytest.approx(
        {
            "rewards/chosen": 0.5,  # log ratios 2, 0, 1
            "rewards/rejected": 0.0,  # -1, 1, 0
            "rewards/margins": 0.5,
            "rewards/accuracies": 2 / 3,
            "logps/chosen": -2.0,
            "logps/rejected": -3.0,
        }
    )
    assert reward_metrics(chosen, chosen, chosen, chosen, beta=0.5)["rewards/accuracies"] == 0.0  # a tie is not right


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: dpo(CHOSEN, REJECTED, *REFERENCE, beta=0.0), "beta is 0.0; it must be a finite number above 0"),
        (lambda: cal_dpo(CHOSEN, REJECTED, *REFERENCE, beta=math.inf), "beta is inf; it must be a finite number"),
        (lambda: dpo(CHOSEN, REJECTED, *REFERENCE, 0.1, label_smoothing=0.5), "label_smoothing is 0.5; it is the shar"),
        (lambda: dr_dpo(CHOSEN, -1.0), "beta_prime is -1.0; it must be above 0"),
        (lambda: dr_dpo(CHOSEN, math.nan), "beta_prime is nan; it must be above 0"),
    ],
)
def test_values_that_make_no_sense_are_named(call: Callable[[], Tensor], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize("loss", [dpo, cal_dpo])
def test_swapped_pairs_are_seen(loss: Callable[..., Tensor]) -> None:
    """Descending on a pair makes its chosen completion likelier; on the same pair swapped, the rejected one."""
    there, swapped = (torch.zeros(1), torch.zeros(1)), []
    for order in (1, -1):
        sums = [torch.tensor([-3.0], requires_grad=True), torch.tensor([-3.0], requires_grad=True)]
        reference = [one - 3 for one in there]
        value = loss(*sums[::order], *reference[::order], beta=0.1).sum()
        swapped.append(torch.stack(torch.autograd.grad(value, sums)).flatten().tolist())
    (down, up), other = swapped
    assert down < 0 < up
    assert other == [up, down]
    better, worse = (loss(*sums, *REFERENCE, beta=0.1) for sums in ((CHOSEN, REJECTED), (REJECTED, CHOSEN)))
    assert (better != worse).all()


def test_cal_dpo_is_calibrated_at_its_targets() -> None:
    """There, what is left is the contrast alone; an unlucky sign or factor would move the place."""
    beta, zero = 0.1, torch.zeros(1)
    at = cal_dpo(torch.tensor([5.0]), torch.tensor([-5.0]), zero, zero, beta)
    assert at.item() == pytest.approx(softplus(-10))
    for chosen, rejected in ((4.0, -5.0), (6.0, -5.0), (5.0, -4.0), (5.0, -6.0), (-5.0, 5.0)):
        assert cal_dpo(torch.tensor([chosen]), torch.tensor([rejected]), zero, zero, beta) > at + 0.9
    h = torch.tensor([5.0, -5.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(cal_dpo(h[:1], h[1:], zero, zero, beta).sum(), h)
    assert slope.tolist() == pytest.approx([-1 / (1 + math.exp(10)), 1 / (1 + math.exp(10))])  # the contrast's


def test_dr_dpo_tends_to_the_mean_and_to_the_easiest_pair() -> None:
    losses = torch.rand(64, generator=torch.Generator().manual_seed(0)) * 5
    at = [dr_dpo(losses, beta_prime).item() for beta_prime in (1e-3, 0.1, 1.0, 10.0, 1e3, 1e9, math.inf)]
    assert at == sorted(at)
    assert at[0] == pytest.approx(losses.min().item(), abs=0.01)
    assert at[-2] == pytest.approx(losses.mean().item(), rel=1e-6)  # in float32: no log of nearly one
    assert at[-1] == losses.mean().item()


def test_dr_dpo_trusts_the_odd_pair_less() -> None:
    """The gradient is a softmax of -loss / beta': weights that sum to one, least for the likely mislabelled pair."""
    losses = torch.tensor([0.5, 0.7, 9.0], requires_grad=True)
    (trust,) = torch.autograd.grad(dr_dpo(losses, 1.0), losses)
    torch.testing.assert_close(trust, torch.softmax(-losses.detach(), 0))
    huge = torch.tensor([0.0, 1e4], requires_grad=True)  # what overflows if computed as it is written
    (trust,) = torch.autograd.grad(dr_dpo(huge, 1e-2), huge)
    assert trust.tolist() == [1.0, 0.0]
