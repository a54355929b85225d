"""What the winner said to questions of the test split: where it fails, then what it gets right."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from sweeps.report.arc_grids import Drawn, drawn
from sweeps.results.records import UNTOUCHED, Final
from sweeps.results.run_folder import Run

AT_MOST = 6  # of each
LONG = 280  # characters of a prompt that are shown unfolded


@dataclass(frozen=True)
class Said:
    """One answered question. `untouched` is what the base said before training; `drawn` an ARC task's grids."""

    kind: str
    prompt: str
    answer: str
    completion: str
    score: float
    untouched: str | None
    drawn: Drawn | None

    @property
    def folded(self) -> bool:
        return len(self.prompt) > LONG


@dataclass(frozen=True)
class Examples:
    """Of one finalist, with the first of its seeds, which lies in `best/`.

    `n` questions were asked, `failed` of them scored below 1.
    """

    name: str
    n: int
    failed: int
    wrong: tuple[Said, ...]
    right: tuple[Said, ...]


def examples(run: Run) -> Examples | None:
    """Of the best finalist that was trained; None where nothing was said in words, or there are no finalists."""
    best = next((one for one in run.finals if one.name != UNTOUCHED and one.completions), None)
    if best is None:
        return None
    rows = run.answers[(run.answers.name == best.name) & (run.answers.seed == 0)].sort_values("item")
    before = run.answers[run.answers.name == UNTOUCHED].drop_duplicates("item").set_index("item")
    full = rows.score >= min(1.0, rows.score.max()) if rows.score.max() > 0 else rows.score > 1
    arc = _is_arc(run, best)

    def said(row: pd.Series) -> Said:
        untouched = before.completion.get(row["item"]) if len(before) else None
        own = (str(row.prompt), str(row.answer), str(row.completion))
        unlike = untouched if isinstance(untouched, str) and untouched != row.completion else None
        return Said(str(row.kind), *own, float(row.score), unlike, drawn(*own) if arc else None)

    def some(of: pd.DataFrame) -> tuple[Said, ...]:
        """Of each kind in turn, the lowest scores first."""
        turns = of.assign(turn=of.groupby("kind").cumcount()).sort_values(["turn", "score", "item"])
        return tuple(said(row) for _, row in turns.head(AT_MOST).iterrows())

    return Examples(best.name, len(rows), int((rows.score < 1).sum()), some(rows[~full]), some(rows[full]))


def _is_arc(run: Run, final: Final) -> bool:
    """Whether the finalist's pair has a task of ARC's name or class: its prompts then hold grids."""
    learner = {one.trial_id: one.learner for one in run.records}.get(final.trial_id or "")
    for pair in run.facts.get("sweep", {}).get("pairs", []):
        task = pair["task"]
        if learner in (None, pair["learner"]["name"]) and (task["name"] == "arc" or task["class"].endswith("ArcTask")):
            return True
    return False
