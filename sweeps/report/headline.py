"""The headline of the report: one sentence with the result of a sweep, and one with its progress."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.report.chart_style import finite
from sweeps.results import pair_comparison
from sweeps.results.comparison import first_group
from sweeps.results.finals import amount, as_trivial, counted, harm, harmed, left_out, to_decide
from sweeps.results.leaderboard import percent, rank, span
from sweeps.results.records import UNRANKED, TrialRecord, trivial_baselines, untouched_baseline, untouched_name
from sweeps.results.run_folder import Run
from sweeps.results.search_comparison import against_trivial, tied_with_best

NAMED = 3  # finalists whose names are given; the others are counted


def headline(run: Run) -> str:
    """Return the result in words: the winner, if there is one, and the untouched base.

    It also says if a trivial baseline is as good, and if all finalists failed.
    """
    unconfirmed = "".join(f" {line}." for line in left_out([], run.confirmation.lost)) if not run.finals else ""
    return f"{_result_sentence(run)}{_trivial_sentence(run)}{unconfirmed}"


def _result_sentence(run: Run) -> str:
    if run.finals:
        return _finalists_sentence(run)
    rows = [row for row in rank(run.records) if row.rank is not None]
    if not rows:
        failed = [one for one in run.records if one.status in UNRANKED]
        if failed and len(failed) == len(run.records):
            return f"There is no winner: all {len(failed)} trials diverged or failed."
        return "No trial has a score yet."
    best, found = rows[0], tied_with_best([row.record for row in rows])
    lead = f"{trial_title(run, best.record)} has the best search score, {percent(best.record.score)}"
    if best.interval:
        lead += f" (95 % interval {span(best.interval)})"
    if found and len(found.places) > 1:
        unpaired = " (unpaired)" if found.unpaired == len(rows) - 1 else ""
        lead += f", but {counted(len(found.places) - 1, 'trial')} cannot be told apart from it{unpaired}"
    base = best.record.params.base
    before = finite([run.end.get("baselines", {}).get(untouched_baseline(base))])
    if not before:
        return f"{lead}."
    worse = best.interval is not None and best.interval[1] < before[0]
    above = ", above that interval: training made it worse" if worse else ""
    return f"{lead}; the {untouched_name(base)} scores {percent(before[0])}{above}."


def _trivial_sentence(run: Run) -> str:
    """Return a sentence if the best trial was not shown to be better than a trivial baseline; else empty."""
    if run.finals:
        told = as_trivial(run.confirmation)
        return f" {told}." if told else ""
    known = run.end.get("baselines", {})
    trivial = {name: value for name, value in trivial_baselines(known).items() if finite([value])}
    ranked = [row for row in rank(run.records) if row.rank is not None]
    if not trivial or not ranked or ranked[0].interval is None:
        return ""
    name, _, beyond = against_trivial([row.record for row in ranked], trivial)
    if beyond:
        return ""
    best = f"{percent(ranked[0].record.score)} ({span(ranked[0].interval)})"
    return f" No better than the {name} baseline was shown: {best} against {percent(trivial[name])}."


def _finalists_sentence(run: Run) -> str:
    trials = {one.trial_id: one for one in run.records}
    names = {one.name: trial_title(run, trials.get(one.trial_id or ""), one.name) for one in run.finals}
    comparisons = run.confirmation.comparisons()
    best, group = run.finals[0], first_group(comparisons)
    trained = run.confirmation.best_trained
    base = run.confirmation.untouched_of_best if trained else best
    worse = harmed(run.confirmation)
    if best.is_untouched and len(group) == 1:
        told = f"the {best.name}, {percent(best.score)} on the test split, beats every finalist"
        if best is base and worse:
            return f"Training did harm: {told}, {amount(worse)}."
        return f"No training was as good as none: {told}."
    too = f" {harm(run.confirmation, {key: _lower(name) for key, name in names.items()})}." if worse else ""
    of_bases = "".join(f" {line}." for line in pair_comparison.in_words(run.confirmation)[:1])
    if trained and base and base.name in group:
        told = f"{names[trained.name]}, {percent(trained.score)} on the test split, cannot be told apart from"
        return f"Nothing was shown to be learned: {told} the {base.name}, {percent(base.score)}.{too}{of_bases}"
    lead = f"{names[best.name]} has the best test score, {percent(best.score)}"
    if rest := group[1:]:
        more = [f"{len(rest) - NAMED} more"] if len(rest) > NAMED else []
        others = _and([*(_lower(names[name]) for name in rest[:NAMED]), *more])
        lead += f", but cannot be told apart from {others} (from the next: {comparisons[0].in_points()})"
        too += f" {remedy}." if (remedy := to_decide(run.confirmation)) else ""
    elif len(run.finals) - len(run.confirmation.untouched) > 1:
        nearest = _lower(names[comparisons[0].second])
        if base and base.name == comparisons[0].second:
            told = f"the {nearest}, {percent(base.score)}: {comparisons[0].in_points()}"
            return f"{lead}, better than every other finalist (than {told}).{too}{of_bases}"
        lead += f", better than every other finalist (than {nearest}: {comparisons[0].in_points()})"
    return f"{lead}; the {base.name} scores {percent(base.score)}.{too}{of_bases}" if base else f"{lead}.{of_bases}"


def trial_title(run: Run, record: TrialRecord | None, name: str = "") -> str:
    """Return a title such as `Trial 3 (lora)`. It names the learner only if there are several."""
    name = name or (f"trial {record.number}" if record else "")
    if record and (record.params.base or len({one.learner for one in run.records}) > 1):
        name = name.partition(" (")[0] + f" ({record.pair}{', default' if 'default)' in name else ''})"
    return name[:1].upper() + name[1:]


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def state(run: Run) -> str:
    """Return how far a sweep has come; empty if it ended as planned."""
    planned = run.facts.get("sweep", {}).get("num_samples")
    ended = sum(one.status not in ("running", "paused") for one in run.records)
    far = f"{ended} of {planned} trials have ended" if planned else f"{counted(ended, 'trial')} ended"
    if run.end.get("interrupted"):
        return f"This sweep was interrupted: {far}."
    return "" if run.end else f"This sweep has not finished: {far}. The results below may still change."
