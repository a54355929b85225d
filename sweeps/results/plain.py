"""Trials, finalists and verdicts as plain values, which `--json` prints: `output.schema.json` describes them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.results.comparison import first_group
from sweeps.results.confirmation import Confirmation
from sweeps.results.finals import verdict as in_words
from sweeps.results.leaderboard import rank
from sweeps.results.leaderboard import verdict as about_the_search
from sweeps.results.records import LeaderboardRow, TrialRecord
from sweeps.results.statistics import Interval
from sweeps.results.two_sweeps import Difference


def number(value: float | None) -> float | None:
    """Return the value; None for what is no number."""
    return None if value is None or not math.isfinite(value) else float(value)


def bounds(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [float(end) for end in interval]


def trial(row: LeaderboardRow) -> dict[str, Any]:
    one = row.record
    return {
        "rank": row.rank,
        "number": one.number,
        "trial_id": one.trial_id,
        "learner": one.learner,
        "base": one.params.base or None,
        "score": number(one.score),
        "interval": bounds(row.interval),
        "questions": one.n_items,
        "rounds": one.rounds,
        "status": one.status,
        "notes": list(one.notes),
        "params": {name: value(own) for name, own in one.params.fields.items()},
    }


def value(own: Any) -> Any:
    """Return the value of a field, as text if JSON has no such value."""
    if isinstance(own, float):
        return number(own)
    return own if isinstance(own, str | int | bool | None) else str(own)


def leaderboard(records: Sequence[TrialRecord], baselines: Mapping[str, float]) -> dict[str, Any]:
    """Return all trials of the search, the best first, and what may be concluded from their scores."""
    rows = rank(records)
    known = {name: score for name, score in baselines.items() if number(score) is not None}
    return {
        "trials": [trial(row) for row in rows],
        "baselines": known,
        "conclusions": about_the_search(rows, baselines),
    }


def counts(records: Sequence[TrialRecord]) -> dict[str, int]:
    """Return the number of trials of each status."""
    return dict(Counter(one.status for one in records))


def finalists(known: Confirmation) -> list[dict[str, Any]]:
    """Return the finalists by their scores on the test split, the best first."""
    intervals = known.bounds() if known.finals else {}
    return [
        {
            "name": one.name,
            "trial_id": one.trial_id,
            "trained": not one.is_untouched,
            "score": number(one.score),
            "interval": bounds(intervals[one.name]),
            "seeds": len(one.scores),
            "questions": one.scores.shape[1],
            "search_score": number(one.searched),
        }
        for one in known.finals
    ]


def verdict(known: Confirmation) -> dict[str, Any] | None:
    """Return which finalists cannot be told apart from the best, and the sentences about them; None without any.

    `winner` is the best finalist's name if it is better than all others, else None.
    """
    if not known.finals:
        return None
    group = first_group(known.comparisons()) or [known.finals[0].name]
    winner = group[0] if len(group) == 1 and len(known.finals) > 1 else None
    return {"winner": winner, "tied": group, "look": known.look, "sentences": in_words(known)}


def difference(found: Difference) -> dict[str, Any]:
    """Return the comparison of two sweeps."""
    return {
        "first": found.first,
        "second": found.second,
        "better": found.is_shown,
        "difference": number(found.difference),
        "interval": bounds(found.interval),
        "p": number(found.p),
        "common_questions": found.common,
        "finalists": [
            {"name": name, "score": number(score), "interval": bounds(ends)} for name, score, ends in found.rows
        ],
        "left_out": list(found.left_out),
    }
