"""The rounds after which ASHA decides, and whether it ended the wrong trials."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.results.records import Final, TrialRecord, winner

MEAN_OF = 3  # rounds; ASHA decides by the mean of the last few, which is less noisy than the last


def first_rung(rounds: int) -> int:
    """Return the round after which ASHA first decides by default: an eighth of all rounds, and at least one."""
    return max(1, rounds // 8)


def decided_at(grace_period: int, reduction_factor: int, rounds: int) -> list[int]:
    """Return the rounds after which ASHA decides, and the last round."""
    found = [grace_period]
    while found[-1] < rounds:
        found.append(min(found[-1] * reduction_factor, rounds))
    return found


def in_words(records: Sequence[TrialRecord], finals: Sequence[Final], rounds: int) -> list[str]:
    """Say so if the first finalist is a trial that ASHA had pruned, in a sweep of so many rounds.

    How scores at one rung agree with those at the next is not reported: only survivors have both, whose scores are
    alike, so that they agree badly whatever the early scores were worth.
    """
    first = winner(records, finals) if finals else None
    if first is None or first.status != "pruned":
        return []
    return [
        f"The first finalist is trial {first.number}, which ASHA had pruned at round {first.rounds}: early scores said"
        f" little, use --grace-period {min(rounds, 2 * first.rounds)}"
    ]
