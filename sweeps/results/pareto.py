"""Several objectives: the Pareto front of trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from sweeps.results.leaderboard import percent
from sweeps.results.records import TrialRecord, by_score
from sweeps.results.trial_history import TrialHistory

# Objective -> the better direction, and its metric in a round. Objectives to maximize lie in [0, 1].
OBJECTIVES: dict[str, tuple[Literal["maximize", "minimize"], str]] = {
    "score": ("maximize", "score"),
    "trainable_parameters": ("minimize", "trainable_parameters"),
    "seconds": ("minimize", "seconds"),
    "loss": ("minimize", "loss"),
    "out_of_domain": ("maximize", "forgetting_score"),
}
WORST = {"maximize": 0.0, "minimize": math.inf}


def values(history: TrialHistory, objectives: Sequence[str]) -> list[float]:
    """Return a trial's objectives in the round with the best score, whose checkpoint is kept.

    `seconds` are the trial's own, up to the end of that round. A missing value, NaN, and every value of a diverged
    trial count as the worst.
    """
    best = dict(history.best or {})
    if best:
        best["seconds"] = sum(row.get("seconds", math.inf) for row in history.up_to(best["round"]))
    found = ((way, float(best.get(key, WORST[way]))) for way, key in (OBJECTIVES[name] for name in objectives))
    return [WORST[way] if math.isnan(value) else value for way, value in found]


def costs(record: TrialRecord, objectives: Sequence[str]) -> tuple[float, ...]:
    """Return a trial's objectives as costs to minimize; an objective to maximize becomes its distance from 1."""
    found = zip(objectives, values(record.history, objectives), strict=True)
    return tuple(1 - value if OBJECTIVES[name][0] == "maximize" else value for name, value in found)


def front(records: Sequence[TrialRecord], objectives: Sequence[str]) -> list[TrialRecord]:
    """Return the trials that no other dominates, the best score first; equal ones all stay."""
    ranked = by_score(records)
    known = {one.trial_id: costs(one, objectives) for one in ranked}

    def dominated(own: tuple[float, ...]) -> bool:
        return any(all(a <= b for a, b in zip(other, own, strict=True)) and other != own for other in known.values())

    return [one for one in ranked if not dominated(known[one.trial_id])]


def in_words(records: Sequence[TrialRecord], objectives: Sequence[str]) -> list[str]:
    """Return a line with the front and the costs of its trials; none for a single objective."""
    if len(objectives) < 2:
        return []
    shown = [
        f"trial {one.number} ({percent(one.score)}, "
        + ", ".join(f"{value:,.6g}" for value in values(one.history, objectives)[1:])
        + ")"
        for one in front(records, objectives)
    ]
    return [f"Pareto front of {' and '.join(objectives)}: {'; '.join(shown)}"] if shown else []
