"""Measures how well early rounds predicted late ones, on which ASHA relies. Scores are in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sweeps.results.records import Final, TrialRecord, winner

ENOUGH = 6  # trials that reached the later rung; of fewer, tau says nothing
WEAK = 0.3  # tau below which an order of trials hardly predicts the next


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b between the scores of `n` trials at two rungs: 1 the same order, 0 none, -1 reversed."""

    early: int  # round
    late: int
    tau: float
    n: int


def decided_at(grace_period: int, reduction_factor: int, rounds: int) -> list[int]:
    """Return the rounds after which ASHA decides, and the last round."""
    found = [grace_period]
    while found[-1] < rounds:
        found.append(min(found[-1] * reduction_factor, rounds))
    return found


def agreements(records: Sequence[TrialRecord], at: Sequence[int]) -> list[Agreement]:
    """Measure the agreement of neighbouring rungs `at`, over the trials that reached the later one.

    Rungs that fewer than `ENOUGH` trials reached, or with equal scores, are left out. ASHA let these trials through, so
    their scores are alike, and tau is lower than it would be among all.
    """
    found = []
    for early, late in pairwise(at):
        scored = [
            {row["round"]: row["score"] for row in one.history if row.get("score") is not None} for one in records
        ]
        pairs = [(scores[early], scores[late]) for scores in scored if {early, late} <= scores.keys()]
        if len(pairs) >= ENOUGH and all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):
            from scipy.stats import kendalltau  # 1 s to import

            found.append(Agreement(early, late, float(kendalltau(*zip(*pairs, strict=True)).statistic), len(pairs)))
    return found


def in_words(records: Sequence[TrialRecord], finals: Sequence[Final], at: Sequence[int]) -> list[str]:
    """Say how well rungs agreed, with advice where ASHA stopped trials too early."""
    lines = []
    for one in agreements(records, at):
        lines.append(
            f"Round {one.early} predicted round {one.late} with tau {one.tau:.2f}"
            f" (Kendall, {one.n} trials; 1: the same order)"
        )
        if one.tau < WEAK and any(record.status == "pruned" and record.rounds == one.early for record in records):
            lines[-1] += f": ASHA was too eager, use --grace-period {one.late}"
    first = winner(records, finals) if finals else None
    if first is not None and first.status == "pruned":
        lines.append(
            f"The first finalist is trial {first.number}, which ASHA had stopped at round {first.rounds}: it was too"
            f" eager, use --grace-period {min(max(at), 2 * first.rounds)}"
        )
    return lines
