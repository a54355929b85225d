"""What goes wrong in training from rewards, planted in histories that would otherwise be healthy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from trainables.checks.rl_marks import rl_marks

ROUNDS = 8


def history(rounds: int = ROUNDS, **planted: Callable[[int], float]) -> list[dict[str, Any]]:
    """Training that works: the reward and the score rise, entropy falls and completions grow, all slowly."""
    healthy: dict[str, Callable[[int], float]] = {
        "reward": lambda i: 0.3 + 0.05 * i,
        "score": lambda i: 0.25 + 0.05 * i,
        "frac_reward_zero_std": lambda i: 0.35 + 0.03 * i,
        "entropy": lambda i: 0.6 * 0.8**i,
        "kl": lambda i: 0.02 * (i + 1),
        "completions/mean_length": lambda i: 20 + 3 * i,
        "completions/clipped_ratio": lambda i: 0.3 - 0.03 * i,
    }
    return [{"round": i + 1} | {k: at(i) for k, at in (healthy | planted).items()} for i in range(rounds)]


@pytest.mark.parametrize("rounds", range(ROUNDS + 1))
def test_what_works_has_no_mark(rounds: int) -> None:
    assert list(rl_marks(history(rounds), 100)) == []


def test_other_learners_have_none() -> None:
    rows = [{"round": i, "score": 0.5 - 0.1 * i, "loss": 1.0, "entropy": 0.5 * 0.01**i} for i in range(5)]
    assert list(rl_marks(rows)) == []


def test_what_a_learner_does_not_report_is_not_judged() -> None:
    """Without a divergence in the loss, nobody computes one."""
    assert list(rl_marks([{"round": i, "reward": 0.1 * i, "score": 0.1 * i} for i in range(1, 6)], 100)) == []


def test_a_solved_task_has_equal_rewards_and_little_entropy() -> None:
    solved = {
        "score": lambda i: min(0.5 + 0.3 * i, 0.97),
        "reward": lambda i: min(0.5 + 0.3 * i, 0.99),
        "frac_reward_zero_std": lambda i: min(0.5 + 0.3 * i, 0.98),
        "entropy": lambda i: 0.6 * 0.3**i,
    }
    assert list(rl_marks(history(**solved), 100)) == []


def test_groups_of_equal_reward() -> None:
    """Questions that are too hard: almost no completion is right."""
    planted = history(frac_reward_zero_std=lambda i: 0.9 + 0.005 * i, reward=lambda i: 0.02, score=lambda i: 0.02)
    assert list(rl_marks(planted, 100)) == [
        "no gradient from 92 % of groups, whose rewards are equal (mean reward 0.02)"
    ]


def test_entropy_collapse() -> None:
    planted = history(entropy=lambda i: 0.6 * 0.4**i, score=lambda i: 0.4)
    assert list(rl_marks(planted, 100)) == ["entropy collapsed from 0.6 to 0.00098 nats per token"]


@pytest.mark.parametrize("entropy", [lambda i: 0.04 * 0.9**i, lambda i: 3.0 * 0.6**i])
def test_an_entropy_that_was_low_or_is_not_yet_has_not_collapsed(entropy: Callable[[int], float]) -> None:
    assert list(rl_marks(history(entropy=entropy), 100)) == []


@pytest.mark.parametrize(
    ("kl", "said"),
    [
        (lambda i: 0.05 * 2**i, "KL ran away from 0.2 in round 3, the best, to 3.2 nats per token"),
        (lambda i: 12.0, "KL ran away from 12 in round 3, the best, to 12 nats per token"),
    ],
)
def test_a_divergence_that_runs_away(kl: Callable[[int], float], said: str) -> None:
    planted = history(kl=kl, score=lambda i: 0.41 if i == 2 else 0.4, reward=lambda i: 0.4)
    assert list(rl_marks(planted, 100)) == [said]


def test_a_divergence_by_which_the_score_rises_and_a_single_outlier_are_fine() -> None:
    assert list(rl_marks(history(kl=lambda i: 0.05 * 1.8**i), 100)) == []
    assert list(rl_marks(history(kl=lambda i: 40.0 if i == ROUNDS - 1 else 0.1), 100)) == []


def test_completions_that_grow_to_the_limit() -> None:
    planted = history(
        **{
            "completions/mean_length": lambda i: min(20 + 20 * i, 64),
            "completions/clipped_ratio": lambda i: 0.1 * (i + 1),
        }
    )
    assert list(rl_marks(planted, 100)) == ["completions grew from 20 to 64 tokens, 70 % of the last up to the limit"]


def test_completions_that_were_at_the_limit_before_have_not_grown() -> None:
    """How many are cut off is said of every trial, by `trial_warnings.py`."""
    planted = {"completions/mean_length": lambda i: 60, "completions/clipped_ratio": lambda i: 0.9}
    assert list(rl_marks(history(**planted), 100)) == []


def test_reward_hacking() -> None:
    """The reward rises all the time, the score until round 4."""
    planted = history(score=lambda i: 0.3 + 0.1 * i if i < 4 else 0.6 - 0.1 * (i - 3))
    assert list(rl_marks(planted, 100)) == [
        "reward hacking: from round 4 on the reward rose from 0.43 to 0.62, but the score fell from 55 % to 25 %"
    ]


def test_a_fall_within_luck_and_one_of_the_reward_too_are_no_hacking() -> None:
    def score(i: int) -> float:
        return 0.55 if i in (2, 3) else 0.45

    assert list(rl_marks(history(score=score), 100)) == []  # two standard errors of 100 questions are 14 points
    assert len(list(rl_marks(history(score=score), 1000))) == 1
    assert list(rl_marks(history(score=score, reward=lambda i: 0.6 - 0.05 * i), 1000)) == []


def test_rounds_before_rewards_and_a_diverged_one_do_not_count() -> None:
    supervised = [{"round": i, "score": 0.9, "entropy": 9.0} for i in range(3)]
    assert list(rl_marks([*supervised, *history()], 100)) == []
    for reward in (math.nan, 0.9):
        diverged = {"round": 9, "reward": reward, "score": 0.0, "entropy": 0.0, "diverged": True}
        assert list(rl_marks([*history(), diverged], 100)) == []
