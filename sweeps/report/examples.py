"""Examples of the winner's answers to the test split: wrong ones, then right ones."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from sweeps.report.arc_grids import DrawnTask, drawn
from sweeps.results.records import untouched_name
from sweeps.results.run_folder import Run

AT_MOST = 6  # wrong examples, and as many right ones
LONG = 280  # characters; a longer prompt is folded


@dataclass(frozen=True)
class AnsweredQuestion:
    """One answered question. `untouched` is the base's answer before training, if it differs.

    `drawn` shows the grids of a prompt that has them in the format of ARC (`arc_grids.py`).
    """

    kind: str
    prompt: str
    answer: str
    completion: str
    score: float
    untouched: str | None
    drawn: DrawnTask | None

    @property
    def folded(self) -> bool:
        return len(self.prompt) > LONG


@dataclass(frozen=True)
class Examples:
    """Examples of one finalist with its first seed, whose weights are in `best/`.

    It answered `n` questions; `failed` of them scored below 1.
    """

    name: str
    n: int
    failed: int
    wrong: tuple[AnsweredQuestion, ...]
    right: tuple[AnsweredQuestion, ...]


def examples(run: Run) -> Examples | None:
    """Return examples of the best trained finalist. None without finalists, or if none answered in text."""
    best = next((one for one in run.finals if not one.is_untouched and one.completions), None)
    if best is None:
        return None
    rows = run.answers[(run.answers.name == best.name) & (run.answers.seed == 0)].sort_values("item")
    before = run.answers[run.answers.name == untouched_name(best.base)].drop_duplicates("item").set_index("item")
    full = rows.score >= min(1.0, rows.score.max()) if rows.score.max() > 0 else rows.score > 1

    def answered(row: pd.Series) -> AnsweredQuestion:
        untouched = before.completion.get(row["item"]) if len(before) else None
        own = (str(row.prompt), str(row.answer), str(row.completion))
        different = untouched if isinstance(untouched, str) and untouched != row.completion else None
        return AnsweredQuestion(str(row.kind), *own, float(row.score), different, drawn(*own))

    def select(answers: pd.DataFrame) -> tuple[AnsweredQuestion, ...]:
        """Take the lowest scores first, from each kind in turn."""
        turns = answers.assign(turn=answers.groupby("kind").cumcount()).sort_values(["turn", "score", "item"])
        return tuple(answered(row) for _, row in turns.head(AT_MOST).iterrows())

    return Examples(best.name, len(rows), int((rows.score < 1).sum()), select(rows[~full]), select(rows[full]))
