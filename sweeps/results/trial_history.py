"""The rounds of a trial, and its best round. All that shows a "best so far" gets it here, so that all agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

Round = Mapping[str, Any]  # `round` (from 1), `score` if it has one, `diverged`, and other metrics

WORST_SCORE = 0.0  # scores lie in [0, 1]; higher is better


def has_diverged(result: Mapping[str, Any]) -> bool:
    """Whether a round is marked as diverged, or has a score that is not finite."""
    score = result.get("score")
    return bool(result.get("diverged")) or (score is not None and not math.isfinite(score))


@dataclass(frozen=True)
class TrialHistory(Sequence[Round]):
    """The rounds of one trial, in order. Immutable: `with_round` returns a new history."""

    rows: tuple[Round, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Round: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Round]: ...
    def __getitem__(self, index: int | slice) -> Round | Sequence[Round]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Round]:
        return iter(self.rows)

    def with_round(self, row: Round) -> TrialHistory:
        """Return the history with one more round. A restored trial repeats rounds: those from this number on are
        dropped, as their weights are gone."""
        return TrialHistory((*self.up_to(row["round"] - 1), row))

    def up_to(self, round_: int) -> TrialHistory:
        """Return the history up to round `round_`."""
        return TrialHistory(tuple(row for row in self.rows if row["round"] <= round_))

    @property
    def rounds(self) -> int:
        """The number of the last round; 0 before the first."""
        return self.rows[-1]["round"] if self.rows else 0

    @property
    def last_score(self) -> float | None:
        return self.rows[-1].get("score") if self.rows else None

    @property
    def seconds(self) -> float:
        """The time that all rounds took to train and evaluate."""
        return sum(row.get("seconds", 0.0) for row in self.rows)

    @cached_property
    def diverged_in(self) -> int | None:
        """The first round that diverged."""
        return next((row["round"] for row in self.rows if has_diverged(row)), None)

    @property
    def diverged(self) -> bool:
        return self.diverged_in is not None

    @cached_property
    def best(self) -> Round | None:
        """The round with the highest score, the first of equals; None without a score, and for a trial that diverged,
        as it has no usable weights."""
        scored = [row for row in self.rows if row.get("score") is not None]
        return None if self.diverged else max(scored, key=lambda row: row["score"], default=None)

    @property
    def best_round(self) -> int | None:
        """The number of the best round."""
        return None if self.best is None else self.best["round"]

    @property
    def score(self) -> float | None:
        """The score of the best round; the worst possible one for a trial that diverged."""
        if self.diverged:
            return WORST_SCORE
        return None if self.best is None else self.best["score"]
