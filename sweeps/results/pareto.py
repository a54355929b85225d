"""Several objectives: the trials that no other beats in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sweeps.results.files import best_round
from sweeps.results.leaderboard import TrialRecord, by_score, percent

# What can be optimized: which way is better, and where a result has it. What is to be large lies in [0, 1].
OBJECTIVES: dict[str, tuple[Literal["maximize", "minimize"], str]] = {
    "score": ("maximize", "score"),
    "trainable_parameters": ("minimize", "trainable_parameters"),
    "seconds": ("minimize", "total_seconds"),
    "loss": ("minimize", "loss"),
    "out_of_domain": ("maximize", "forgetting_score"),
}


def costs(record: TrialRecord, objectives: Sequence[str]) -> tuple[float, ...]:
    """What is to be small: seconds of all rounds, the trial's own (`trial.Trial`), and of the round with the best
    score, whose checkpoint a person takes away, the score's distance from 1, parameters, loss, the distance from 1 of
    its score on what was not trained on."""
    best = best_round(record.history) or {}
    found = {"score": 1 - (record.score or 0.0), "seconds": record.seconds}
    found["out_of_domain"] = 1 - float(best.get(OBJECTIVES["out_of_domain"][1], 0.0))
    return tuple(found[name] if name in found else float(best.get(name, "inf")) for name in objectives)


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
        + ", ".join(f"{value:,.6g}" for value in costs(one, objectives)[1:])
        + ")"
        for one in front(records, objectives)
    ]
    return [f"Pareto front of {' and '.join(objectives)}: {'; '.join(shown)}"] if shown else []
