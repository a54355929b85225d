"""Examples of the winner's answers to the test split: wrong ones, then right ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

import pandas as pd

from sweeps.report.arc_grids import DrawnTask, drawn
from sweeps.results.run_folder import Run

AT_MOST = 6  # wrong examples, and as many right ones
FIRST = 2  # right ones, and wrong ones, on the first screen, if they can be drawn
LONG = 280  # characters; a longer prompt is folded


@dataclass(frozen=True)
class AnsweredQuestion:
    """One answered question. `untouched` is the answer before training, if it differs; `learned`: that was worse.

    `drawn` shows the grids of a prompt that has them in the format of ARC (`arc_grids.py`).
    """

    kind: str
    prompt: str
    answer: str
    completion: str
    score: float
    untouched: str | None
    learned: bool
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

    @property
    def drawn(self) -> list[AnsweredQuestion]:
        """The first right and wrong answers that can be drawn, in turn, for the first screen."""
        parts = [[one for one in part if one.drawn][:FIRST] for part in (self.right, self.wrong)]
        return [one for both in zip_longest(*parts) for one in both if one]


def examples(run: Run) -> Examples | None:
    """Return examples of the best trained finalist. None without finalists, or if none answered in text."""
    best = next((one for one in run.finals if not one.is_untouched and one.completions), None)
    if best is None:
        return None
    rows = run.answers[(run.answers.name == best.name) & (run.answers.seed == 0)].sort_values("item")
    own = run.confirmation.before(best)
    before = run.answers[run.answers.name == (own.name if own else "")].drop_duplicates("item").set_index("item")
    rows = rows.assign(before=before.score.reindex(rows["item"]).to_numpy() if len(before) else 1.0)
    full = rows.score >= min(1.0, rows.score.max()) if rows.score.max() > 0 else rows.score > 1

    def answered(row: pd.Series) -> AnsweredQuestion:
        untouched = before.completion.get(row["item"]) if len(before) else None
        own = (str(row.prompt), str(row.answer), str(row.completion))
        different = untouched if isinstance(untouched, str) and untouched != row.completion else None
        learned = bool(row.score > row.before)
        return AnsweredQuestion(str(row.kind), *own, float(row.score), different, learned, drawn(*own))

    def select(answers: pd.DataFrame) -> tuple[AnsweredQuestion, ...]:
        """Take the lowest scores first, and of these what training changed most, from each kind in turn."""
        answers = answers.assign(changed=-(answers.score - answers.before).abs().fillna(0.0))
        answers = answers.sort_values(["score", "changed", "item"])
        order = ["turn", "score", "changed", "item"]
        turns = answers.assign(turn=answers.groupby("kind").cumcount()).sort_values(order)
        return tuple(answered(row) for _, row in turns.head(AT_MOST).iterrows())

    return Examples(best.name, len(rows), int((rows.score < 1).sum()), select(rows[~full]), select(rows[full]))
