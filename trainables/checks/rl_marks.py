"""Warnings about a trial that learns from rewards: what goes wrong in such training, seen in the metrics of its rounds.

The metrics have TRL's names (`training/grpo_loss.py`, `docs/reference/metrics.md`); one that a learner does not report
is not judged. The limits are ours. They leave alone what rewards do to any model: entropy falls and completions grow
while a task is learned, and where it is solved, rewards are equal and little is left to explore.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Round = Mapping[str, Any]
EQUAL = 0.8  # share of groups with equal rewards, over all rounds
SOLVED = 0.95  # score from which on equal rewards and a low entropy are what one wants
COLLAPSED, LOW_ENTROPY = 0.1, 0.05  # of the first round's entropy; nats per token
FAR, FARTHER, TOO_FAR = 1.0, 4.0, 10.0  # KL divergence: nats per token; times that of the best round; always too much
CUT_OFF, GROWN = 0.5, 1.25  # share of completions at the limit; times the first round's length
FALL, RISE = 0.05, 0.05  # of the score and of the reward, at least
WINDOW = 2  # rounds that are taken together, as one alone may be an outlier


def rl_marks(rounds: Sequence[Round], questions: int = 0) -> Iterator[str]:
    """Yield what went wrong, each with its figures; nothing for a learner without rewards.

    `rounds`: a trial's rounds in order, each with `round`, `reward`, the held-out `score` in [0, 1] and other metrics.
    `questions`: how many questions the score is a mean of, so that a fall within their luck is none; 0: unknown.
    """
    rewarded = [row for row in rounds if math.isfinite(row.get("reward", math.nan)) and not row.get("diverged")]
    for mark in (_equal_groups, _collapsed_entropy, _far_from_base, _growing_completions):
        if rewarded and (said := mark(rewarded)):
            yield said
    if said := _hacked_reward(rewarded, questions):
        yield said


def _equal_groups(rounds: Sequence[Round]) -> str | None:
    share = _mean(equal := [row["frac_reward_zero_std"] for row in rounds if "frac_reward_zero_std" in row])
    if not equal or share < EQUAL or _is_solved(rounds):
        return None
    reward = _mean([row["reward"] for row in rounds])
    return f"no gradient from {_percent(share)} of groups, whose rewards are equal (mean reward {reward:.2f})"


def _collapsed_entropy(rounds: Sequence[Round]) -> str | None:
    first, last = rounds[0].get("entropy", math.nan), rounds[-1].get("entropy", math.nan)
    if not last <= min(COLLAPSED * first, LOW_ENTROPY) or _is_solved(rounds):
        return None
    return f"entropy collapsed from {first:.2g} to {last:.2g} nats per token"


def _far_from_base(rounds: Sequence[Round]) -> str | None:
    """Compare with the best round: a score that still rises may be worth the way."""
    if len(rounds) < WINDOW:
        return None
    best = max(rounds, key=lambda row: row.get("score", 0.0))
    then, now = best.get("kl", math.nan), min(row.get("kl", math.nan) for row in rounds[-WINDOW:])
    if not (now >= TOO_FAR or now >= max(FAR, FARTHER * then)):
        return None
    return f"KL ran away from {then:.2g} in round {best['round']}, the best, to {now:.2g} nats per token"


def _growing_completions(rounds: Sequence[Round]) -> str | None:
    first, last = (row.get("completions/mean_length", math.nan) for row in (rounds[0], rounds[-1]))
    share = min(row.get("completions/clipped_ratio", 0.0) for row in rounds[-WINDOW:])
    if share < CUT_OFF or not last >= GROWN * first:
        return None
    return f"completions grew from {first:.0f} to {last:.0f} tokens, {_percent(share)} of the last up to the limit"


def _hacked_reward(rounds: Sequence[Round], questions: int) -> str | None:
    """Compare the best rounds with the last ones. A fall must exceed two standard errors of the difference of two
    independent shares, which is more than that of two answers to the same questions."""
    scored = [row for row in rounds if "score" in row]
    windows = [scored[start : start + WINDOW] for start in range(len(scored) - WINDOW + 1)]
    if len(windows) <= WINDOW:
        return None
    rewards, scores = ([_mean([row[name] for row in own]) for own in windows] for name in ("reward", "score"))
    best = max(range(len(scores)), key=lambda place: scores[place])
    luck = 2 * math.sqrt(2 * scores[best] * (1 - scores[best]) / questions) if questions else 0.0
    if scores[best] - scores[-1] < max(FALL, luck) or rewards[-1] - rewards[best] < RISE:
        return None
    rise, fall = f"{rewards[best]:.2f} to {rewards[-1]:.2f}", f"{_percent(scores[best])} to {_percent(scores[-1])}"
    start = windows[best][-1]["round"]
    return f"reward hacking: from round {start} on the reward rose from {rise}, but the score fell from {fall}"


def _is_solved(rounds: Sequence[Round]) -> bool:
    return max(row.get("score", 0.0) for row in rounds) >= SOLVED


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
