"""Several objectives: the trials that no other beats in all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from sweeps.results.leaderboard import percent
from sweeps.results.records import TrialRecord, by_score
from sweeps.results.trial_history import TrialHistory

# What can be optimized: which way is better, and where a round has it. What is to be large lies in [0, 1].
OBJECTIVES: dict[str, tuple[Literal["maximize", "minimize"], str]] = {
    "score": ("maximize", "score"),
    "trainable_parameters": ("minimize", "trainable_parameters"),
    "seconds": ("minimize", "seconds"),
    "loss": ("minimize", "loss"),
    "out_of_domain": ("maximize", "forgetting_score"),
}
WORST = {"maximize": 0.0, "minimize": math.inf}


def values(history: TrialHistory, objectives: Sequence[str]) -> list[float]:
    """What a trial reached, all in the round with the best score, whose checkpoint a person takes away; `seconds` are
    the trial's own, up to that round's end. A missing value, NaN, and all of a diverged trial count as the worst."""
    best = dict(history.best or {})
    if best:
        best["seconds"] = sum(row.get("seconds", math.inf) for row in history.up_to(best["round"]))
    found = ((way, float(best.get(key, WORST[way]))) for way, key in (OBJECTIVES[name] for name in objectives))
    return [WORST[way] if math.isnan(value) else value for way, value in found]


def costs(record: TrialRecord, objectives: Sequence[str]) -> tuple[float, ...]:
    """Its values as what is to be small: of what is to be large, the distance from 1."""
    found = zip(objectives, values(record.history, objectives), strict=True)
    return tuple(1 - value if OBJECTIVES[name][0] == "maximize" else value for name, value in found)


def front(records: Sequence[TrialRecord], objectives: Sequence[str]) -> list[TrialRecord]:
    """The trials that no other beats, the best score first; of equals all."""
    ranked = by_score(records)
    known = {one.trial_id: costs(one, objectives) for one in ranked}

    def beaten(own: tuple[float, ...]) -> bool:
        return any(all(a <= b for a, b in zip(other, own, strict=True)) and other != own for other in known.values())

    return [one for one in ranked if not beaten(known[one.trial_id])]


def in_words(records: Sequence[TrialRecord], objectives: Sequence[str]) -> list[str]:
    """One line with the front and what each trial on it costs; none for a single objective."""
    if len(objectives) < 2:
        return []
    shown = [
        f"trial {one.number} ({percent(one.score)}, "
        + ", ".join(f"{value:,.6g}" for value in values(one.history, objectives)[1:])
        + ")"
        for one in front(records, objectives)
    ]
    return [f"Pareto front of {' and '.join(objectives)}: {'; '.join(shown)}"] if shown else []
