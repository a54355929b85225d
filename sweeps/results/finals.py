"""Finalists: what is left of a sweep's best scores when they are trained again and asked new questions.

Shapes: S seeds, N items of the test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.results.comparison import compare, first_group, in_words
from sweeps.results.files import best_round
from sweeps.results.leaderboard import TrialRecord, by_score, percent, span
from sweeps.results.statistics import interval
from trainables.core import START

UNTOUCHED = "untouched base"
SEEDS = 3  # of each finalist; none is the search's own, whose luck chose them


@dataclass(frozen=True)
class Candidate:
    """A configuration to be confirmed: its trial, how many rounds it is trained, its best score in the search."""

    trial_id: str
    name: str
    params: Mapping[str, Any]
    rounds: int
    searched: float | None


@dataclass(frozen=True)
class Final:
    """A candidate's scores in [0, 1] on the test split, (S, N); the untouched base has one row."""

    name: str
    searched: float | None
    scores: np.ndarray
    trial_id: str | None = None  # of the search
    rounds: int | None = None  # that it was trained for
    completions: tuple[Sequence[str], ...] = ()  # (S, N), where the learner says something

    @property
    def score(self) -> float:
        return float(self.scores.mean())


def candidates(
    records: Sequence[TrialRecord], top: int, defaults: Sequence[Mapping[str, Any]], rounds: int
) -> list[Candidate]:
    """The `top` of the search, trained for as many rounds as gave their best score, and the trials with these defaults.

    Where ASHA stopped a default, it gets all `rounds` here. Clones are left out: they were not trained in one go.
    """
    records = [one for one in records if START not in one.params]  # a clone cannot be had again from scratch
    best = by_score(records)[:top]
    own = [one for one in records if any(given and given.items() <= one.params.items() for given in defaults)]
    chosen = []
    for one in [*best, *(one for one in own if one not in best)]:
        full = one not in best and one.status != "finished"
        name = f"trial {one.number}{' (default)' if one in own else ''}"
        best_of_own = None if full else best_round(one.history)
        chosen.append(
            Candidate(one.trial_id, name, one.params, int(best_of_own["round"]) if best_of_own else rounds, one.score)
        )
    return chosen


def clusters_of(keys: Sequence[str]) -> list[str]:
    """What each item of the test split belongs to, where several share a key; else empty."""
    return list(keys) if len(set(keys)) < len(keys) else []


def ranked(finals: Sequence[Final]) -> list[Final]:
    return sorted(finals, key=lambda one: -one.score)


def verdict(finals: Sequence[Final], clusters: Sequence[str]) -> list[str]:
    """In words: who cannot be told apart, what the untouched base is, and how far the search was above the test."""
    comparisons = compare({one.name: one.scores for one in finals}, clusters)
    lines = [in_words(comparisons, finals[0].scores.shape[1])] if comparisons else []
    group = first_group(comparisons)
    if any(one.name == UNTOUCHED for one in finals):
        if UNTOUCHED in group:
            lines.append("The untouched base is among them: nothing was shown to be learned")
        else:
            gain = ranked(finals)[0].score - next(one.score for one in finals if one.name == UNTOUCHED)
            lines.append(f"The best is {100 * gain:+.1f} points from the untouched base")
    searched = [one.searched - one.score for one in finals if one.searched is not None]
    if searched:
        lines.append(
            f"Search scores were {100 * float(np.mean(searched)):+.1f} points above test scores"
            " (the winner's curse, and what the splits differ in)"
        )
    return lines


def markdown(finals: Sequence[Final], clusters: Sequence[str]) -> str:
    """A section for `leaderboard.md`."""
    lines = [
        "## Finalists: trained again, scored on the test split",
        "",
        "| rank | configuration | test score | 95 % interval | by seed | search score |",
        "|---:|---|---:|---:|---|---:|",
    ]
    for rank, one in enumerate(ranked(finals), start=1):
        by_seed = ", ".join(percent(value) for value in one.scores.mean(1)) if len(one.scores) > 1 else "-"
        bounds = interval(one.scores.mean(0).tolist())
        cells = [rank, one.name, percent(one.score), span(bounds), by_seed, percent(one.searched)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, "", *(f"- {line}." for line in verdict(finals, clusters)), ""])


def print_finals(finals: Sequence[Final], clusters: Sequence[str]) -> None:
    """The same for a terminal."""
    print("\nfinalists, trained again with other seeds, on the test split:")
    for rank, one in enumerate(ranked(finals), start=1):
        bounds = interval(one.scores.mean(0).tolist())
        searched = f", search {percent(one.searched)}" if one.searched is not None else ""
        print(f"  {rank}. {one.name}: {percent(one.score)} ({span(bounds)}){searched}")
    for line in verdict(finals, clusters):
        print(line)
