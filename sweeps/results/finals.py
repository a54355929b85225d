"""Finalists: which trials become one, and what their scores on the test split show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sweeps.results.comparison import LEVEL, Comparison, compare, first_group, in_words
from sweeps.results.leaderboard import percent, span
from sweeps.results.records import UNTOUCHED, Candidate, Final, TrialRecord, by_score, ranked
from sweeps.results.statistics import Interval
from sweeps.results.trial_params import TrialParams
from sweeps.results.uncertainty import intervals

SEEDS = 3  # of each finalist, without the search's seed: finalists were chosen by their luck with it


def candidates(
    records: Sequence[TrialRecord], top: int, defaults: Sequence[TrialParams], rounds: int
) -> list[Candidate]:
    """Choose the finalists: the `top` configurations of the search, and the defaults.

    A configuration of the search is trained for the number of rounds that gave its best score, a default that ASHA
    stopped for all `rounds`. A default may have only some of the fields and so match several trials; the
    first of them is taken. Clones are left out, as they were not trained in one go.
    """
    records = [one for one in records if one.params.start is None]
    best = _distinct(by_score(records))[:top]
    first = (next((one for one in records if _has(one.params, given)), None) for given in defaults)
    own = [one for one in first if one is not None]
    chosen = []
    for one in _distinct([*best, *own]):
        full = one not in best and one.status != "finished"
        name = f"trial {one.number}{' (default)' if one.params in [default.params for default in own] else ''}"
        trained = rounds if full else one.history.best_round or rounds
        chosen.append(Candidate(one.trial_id, name, one.params, trained, one.score if one in best else None))
    return chosen


def _has(params: TrialParams, given: TrialParams) -> bool:
    """Whether a trial has all the fields of a default; an empty default matches only trials without fields."""
    known = bool(given.fields) or not params.fields
    return known and given.learner == params.learner and given.fields.items() <= params.fields.items()


def _distinct(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the first trial of each configuration."""
    found: list[TrialRecord] = []
    for one in records:
        if all(one.params != other.params for other in found):
            found.append(one)
    return found


def left_out(finals: Sequence[Final], lost: Mapping[str, str]) -> list[str]:
    """Say which finalists have no score, and why; if none has, that nothing is confirmed."""
    if lost and not finals:
        told = "; ".join(f"{name} {why}" for name, why in lost.items())
        return [f"No finalist finished, so nothing is confirmed: {told}. --resume trains them again"]
    return [f"{name} is left out of the finalists: it {why}" for name, why in lost.items()]


def compare_with_best(finals: Sequence[Final], clusters: Sequence[str]) -> list[Comparison]:
    """Compare the best with each of the others."""
    return compare({one.name: one.scores for one in finals}, clusters, untrained=[UNTOUCHED])


def bounds_of(finals: Sequence[Final], clusters: Sequence[str]) -> dict[str, Interval]:
    """Return 95 % intervals of the scores, by name, over other items and other seeds."""
    return intervals({one.name: one.scores for one in finals}, clusters, untrained=[UNTOUCHED])


def harmed(finals: Sequence[Final], clusters: Sequence[str]) -> list[Comparison]:
    """Compare the untouched base with each finalist that scores significantly below it."""
    scores = {one.name: one.scores for one in finals}
    if UNTOUCHED not in scores:
        return []
    told = compare(scores, clusters, untrained=[UNTOUCHED], reference=UNTOUCHED)
    return [one for one in told if one.difference > 0 and one.p < LEVEL]


def amount(worse: Sequence[Comparison]) -> str:
    """Format how much worse the finalists are: `by 4.0 to 9.0 points (p <= 0.003)`."""
    least, most = (f"{100 * bound([one.difference for one in worse]):.1f}" for bound in (min, max))
    by = most if len(worse) == 1 else f"{least} to {most}"
    return f"by {by} points (p {'=' if len(worse) == 1 else '<='} {max(one.p for one in worse):.2g})"


def harm(finals: Sequence[Final], clusters: Sequence[str], names: Mapping[str, str] | None = None) -> str:
    """Say which finalists (by their `names`) training made worse than their base; empty if none."""
    worse = harmed(finals, clusters)
    if not worse:
        return ""
    every = len(worse) == len(finals) - 1 > 1
    who = "every finalist" if every else ", ".join((names or {}).get(one.second, one.second) for one in worse)
    return f"Training made {who} worse than the untouched base, {amount(worse)}"


def as_trivial(finals: Sequence[Final], clusters: Sequence[str], trivial: Mapping[str, float]) -> str:
    """Say if the best finalist was not shown to be better than a trivial strategy, such as answering No to everything;
    else empty. `trivial` has the scores of such strategies on the same items."""
    best = next((one for one in ranked(finals) if one.name != UNTOUCHED), None)
    known = {name: value for name, value in trivial.items() if "." not in name}  # `constant.<kind>` are details
    if best is None or not known:
        return ""
    name, bounds = max(known, key=lambda key: known[key]), bounds_of(finals, clusters)[best.name]
    if bounds[0] > known[name]:
        return ""
    told = f"{percent(best.score)} ({span(bounds)}) against {percent(known[name])}"
    return f"No better than the {name} baseline was shown: {told}"


def verdict(finals: Sequence[Final], clusters: Sequence[str], trivial: Mapping[str, float]) -> list[str]:
    """Conclude which finalists differ, how they compare with the untouched base and trivial strategies, and how far
    search scores were above test scores."""
    comparisons = compare_with_best(finals, clusters)
    asked = f"{finals[0].scores.shape[1]}" + (f" ({len(set(clusters))} independent)" if clusters else "")
    lines = [in_words(comparisons, asked)] if comparisons else []
    group = first_group(comparisons)
    if any(one.name == UNTOUCHED for one in finals):
        if UNTOUCHED in group and len(group) > 1:
            lines.append("The untouched base is among them: nothing was shown to be learned")
        elif UNTOUCHED not in group:
            gain = ranked(finals)[0].score - next(one.score for one in finals if one.name == UNTOUCHED)
            lines.append(f"The best is {100 * gain:+.1f} points from the untouched base")
    if told := harm(finals, clusters):
        lines.append(told)
    if told := as_trivial(finals, clusters, trivial):
        lines.append(told)
    gaps = [one.searched - one.score for one in finals if one.searched is not None]
    if gaps:
        gap = float(np.mean(gaps))
        lines.append(
            f"Search scores were {100 * abs(gap):.1f} points {'above' if gap >= 0 else 'below'} test scores"
            " (the winner's curse, and differences between the splits)"
        )
    return lines


def markdown(finals: Sequence[Final], clusters: Sequence[str], trivial: Mapping[str, float]) -> str:
    """Write the section of the finalists in `leaderboard.md`."""
    bounds = bounds_of(finals, clusters)
    lines = [
        "## Finalists: trained again, scored on the test split",
        "",
        "| rank | configuration | test score | 95 % interval | by seed | search score |",
        "|---:|---|---:|---:|---|---:|",
    ]
    for rank, one in enumerate(ranked(finals), start=1):
        by_seed = ", ".join(percent(value) for value in one.scores.mean(1)) if len(one.scores) > 1 else "-"
        cells = [rank, one.name, percent(one.score), span(bounds[one.name]), by_seed, percent(one.searched)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, "", *(f"- {line}." for line in verdict(finals, clusters, trivial)), ""])


def print_finals(finals: Sequence[Final], clusters: Sequence[str], trivial: Mapping[str, float]) -> None:
    """Print the finalists and the verdict."""
    bounds = bounds_of(finals, clusters)
    print("\nfinalists, trained again with other seeds, on the test split:")
    for rank, one in enumerate(ranked(finals), start=1):
        searched = f", search {percent(one.searched)}" if one.searched is not None else ""
        print(f"  {rank}. {one.name}: {percent(one.score)} ({span(bounds[one.name])}){searched}")
    for line in verdict(finals, clusters, trivial):
        print(line)
