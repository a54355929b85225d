"""Finalists: which trials become one, and what their scores on the test split show."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from sweeps.results import pair_comparison
from sweeps.results.allocation import Sizes
from sweeps.results.comparison import LEVEL, Comparison, first_group, in_words
from sweeps.results.confirmation import Confirmation
from sweeps.results.decision import needed
from sweeps.results.leaderboard import percent, span
from sweeps.results.records import UNTRAINED, Candidate, Final, TrialRecord, by_score, trivial_baselines
from sweeps.results.terminal import print
from sweeps.results.trial_params import TrialParams


def candidates(
    records: Sequence[TrialRecord],
    top: int,
    defaults: Sequence[TrialParams],
    rounds: int,
    timed: bool = False,
) -> list[Candidate]:
    """Choose the finalists: the `top` configurations of the search, and the defaults. In a sweep of several bases, and
    in a `timed` one, also the best of each pair, so that bases and learners are compared by what the search found for
    each.

    A configuration of the search is trained for the number of rounds that gave its best score. A default that ASHA
    stopped is trained for all `rounds`, and so is every trial of a `timed` sweep that may have stopped for lack of
    time. A default may have only some of the fields and so match several trials; the first of them is taken. Clones are
    left out, as they were not trained in one go. Names say the pair where there are several.
    """
    records = [one for one in records if one.params.start is None]
    several, named = any(one.params.base for one in records), len({one.pair for one in records}) > 1
    best = _distinct(by_score(records))
    of_pairs = {one.pair: one for one in reversed(best) if several or timed}
    best = [one for one in best if one in best[:top] or one is of_pairs.get(one.pair)]
    first = (next((one for one in records if _has(one.params, given)), None) for given in defaults)
    own = [one for one in first if one is not None]
    chosen = []
    for one in _distinct([*best, *own]):
        full = (timed or one not in best) and one.status != "finished"
        told = [one.pair] * named + ["default"] * (one.params in [default.params for default in own])
        name = f"trial {one.number} ({', '.join(told)})" if told else f"trial {one.number}"
        trained = rounds if full else one.history.best_round or rounds
        chosen.append(Candidate(one.trial_id, name, one.params, trained, one.score if one in best else None))
    return chosen


def most_telling(chosen: Sequence[Candidate], count: int, defaults: Sequence[TrialParams]) -> list[Candidate]:
    """Return so many of the finalists, in their order: first the best of each pair, or of a single pair its best and
    its default; then the others."""
    best: dict[str, Candidate] = {}
    for one in chosen:
        best.setdefault(one.params.pair, one)

    def place(one: Candidate) -> int:
        if one in best.values():
            return 0
        return 1 if len(best) == 1 and any(_has(one.params, given) for given in defaults) else 2

    kept = sorted(chosen, key=place)[:count]
    return [one for one in chosen if one in kept]


def _has(params: TrialParams, given: TrialParams) -> bool:
    """Whether a trial has all the fields of a default; an empty default matches only trials without fields."""
    known = bool(given.fields) or not params.fields
    return known and given.pair == params.pair and given.fields.items() <= params.fields.items()


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


def harmed(known: Confirmation) -> list[Comparison]:
    """Compare each finalist that scores significantly below what it was before its training with that."""
    own = {one.name: known.before(one) for one in known.finals if not one.is_untouched}
    return [
        one
        for before in known.untouched
        for one in known.comparisons(before.name)
        if own.get(one.second) is before and one.difference > 0 and one.p < LEVEL
    ]


def amount(worse: Sequence[Comparison]) -> str:
    """Format how much worse the finalists are: `by 4.0 to 9.0 points (p <= 0.003)`."""
    least, most = (f"{100 * bound([one.difference for one in worse]):.1f}" for bound in (min, max))
    by = most if len(worse) == 1 else f"{least} to {most}"
    return f"by {by} points (p {'=' if len(worse) == 1 else '<='} {max(one.p for one in worse):.2g})"


def harm(known: Confirmation, names: Mapping[str, str] | None = None) -> str:
    """Say which finalists (by their `names`) training made worse than their base; empty if none."""
    worse = harmed(known)
    if not worse:
        return ""
    every = len(worse) == len(known.finals) - len(known.untouched) > 1
    who = "every finalist" if every else ", ".join((names or {}).get(one.second, one.second) for one in worse)
    before = {one.first for one in worse}
    told = "its untouched base" if known.several_bases else "before" if len(before) > 1 else f"the {before.pop()}"
    return f"Training made {who} worse than {told}, {amount(worse)}"


def as_trivial(known: Confirmation) -> str:
    """Say if the best finalist was not shown to be better than a trivial strategy, such as answering No to everything;
    else empty."""
    best = known.best_trained
    trivial = trivial_baselines(known.trivial)
    if best is None or not trivial:
        return ""
    name, bounds = max(trivial, key=lambda key: trivial[key]), known.bounds()[best.name]
    if bounds[0] > trivial[name]:
        return ""
    told = f"{percent(best.score)} ({span(bounds)}) against {percent(trivial[name])}"
    return f"No better than the {name} baseline was shown: {told}"


def verdict(known: Confirmation) -> list[str]:
    """Conclude which finalists differ and what would decide the rest, how they compare with the untouched base and
    trivial strategies, how far luck goes, and how far search scores were above test scores."""
    comparisons = known.comparisons()
    lines = [which_look(known)] if known.look > 1 else []
    asked = f"{known.asked}" + (f" ({len(set(known.clusters))} independent)" if known.clusters else "")
    lines += [in_words(comparisons, asked)] if comparisons else []
    group = first_group(comparisons)
    before, others = _untouched_in(known, group)
    if before and before.name in group and len(group) > 1:
        lines.append(f"The {before.name} is among them: nothing was shown to be learned")
    elif others and len(group) > 1:
        what = "a learner" if others[0].startswith(UNTRAINED) else "that base"
        lines.append(f"The {others[0]} is among them: {what} is as good without training")
    elif len(group) > 1 and (remedy := to_decide(known)):
        lines.append(remedy)
    if before and before.name not in group and not known.finals[0].is_untouched:
        lines.append(f"The best is {_gains(known, before)}")
    lines += pair_comparison.in_words(known)
    lines += filter(None, [harm(known), as_trivial(known), noise_floor(known)])
    if any(above.score < below.score for above, below in itertools.pairwise(known.finals)):
        lines.append("Ranks count that not all were asked the same questions, of which some are easier than others")
    gaps = [one.searched - one.score for one in known.finals if one.searched is not None]
    if gaps:
        gap = float(np.mean(gaps))
        lines.append(
            f"Search scores were {100 * abs(gap):.1f} points {'above' if gap >= 0 else 'below'} test scores"
            " (the winner's curse, and differences between the splits)"
        )
    return lines


def which_look(known: Confirmation) -> str:
    """Say which look at the test split this is, and what its error rate is."""
    if not known.again:
        return f"Look {known.look}: other questions and seeds than before, so its error rate of 5 % is its own"
    left = f"{100 * known.level:.2g} % of the error rate of 5 % is left for it"
    if not known.level:
        left = "nothing of the error rate of 5 % is left, so it shows no difference; more needs a larger test split"
    return f"Second look at the same questions (look {known.look}): {left}"


def of_earlier(looks: Sequence[Confirmation]) -> list[str]:
    """Sum up earlier looks at the test split in a line each."""
    return [f"Look {one.look}, before further trials: {_found(one)}" for one in looks]


def _found(known: Confirmation) -> str:
    comparisons = known.comparisons()
    if comparisons:
        return in_words(comparisons, known.asked)
    return f"{known.finals[0].name} scored {percent(known.finals[0].score)}"


def _gains(known: Confirmation, before: Final) -> str:
    """Say how far the best is from itself before training, on the questions that both were asked; and from other
    learners before theirs, with p-values."""
    comparisons = known.comparisons()
    itself = next(one for one in comparisons if one.second == before.name)
    told = f"{100 * itself.difference:+.1f} points from the {before.name}"
    others = [one for one in comparisons if one.second.startswith(UNTRAINED)]
    own = [f" (p = {one.p:.2g})" for one in others if one.second == before.name]
    rest = [
        f", {100 * one.difference:+.1f} from the {one.second} (p = {one.p:.2g})"
        for one in others
        if one.second != before.name
    ]
    return "".join([told, *own, *rest])


def _untouched_in(known: Confirmation, group: Sequence[str]) -> tuple[Final | None, list[str]]:
    """Return the best trained finalist before its training, and the names of others before theirs in the group."""
    before = known.untouched_of_best
    return before, [name for name in known.untrained if name in group and not (before and name == before.name)]


def to_decide(known: Confirmation) -> str:
    """Say what would decide an open verdict; empty for runs that do not know what finalists cost."""
    if known.spending is None:
        return ""
    if known.independent:
        return "More seeds would not tell them apart: each question has a model of its own"
    found = needed(known.progress(), known.spending.costs)
    if found is None:
        return "If the differences seen so far are true, no affordable number of seeds and questions tells them apart"
    sizes, seconds = found
    minutes = max(1, round(seconds / 60))
    told = f"{additions(known, sizes)}, about {counted(minutes, 'minute')}"
    return f"If the differences seen so far are true, {told} would decide: `espalier decide` with `--minutes {minutes}`"


def additions(known: Confirmation, sizes: Sizes) -> str:
    """Say what the finalists lack of these sizes: `1 more training with new seeds and 500 more questions`."""
    seeds = sum(sizes[one.name][0] - len(one.scores) for one in known.finals)
    questions = max(sizes[one.name][1] - one.scores.shape[1] for one in known.finals)
    trainings = [f"{counted(seeds, 'more training')} with new seeds"] if seeds else []
    return " and ".join([*trainings, *([counted(questions, "more question")] if questions else [])])


def counted(count: int, what: str) -> str:
    """Format a count: `1 minute`, `2 minutes`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def noise_floor(known: Confirmation) -> str:
    """Say how much a score depends on the random seed; empty if no configuration was trained twice."""
    spread = known.spread()
    if not spread.freedom:
        return ""
    degrees = "1 degree" if spread.freedom == 1 else f"{spread.freedom:g} degrees"
    return (
        f"Noise floor: the score of one configuration differs from seed to seed by {100 * spread.variance**0.5:.1f}"
        f" points (standard deviation on the same questions, {degrees} of freedom)"
    )


def markdown(known: Confirmation, earlier: Sequence[Confirmation] = ()) -> str:
    """Write the section of the finalists in `leaderboard.md`, and a line for each earlier look."""
    before = ["## Earlier looks at the test split", "", *(f"- {line}." for line in of_earlier(earlier)), ""]
    sections = [_table(known)] if known.finals else []
    return "\n".join([*sections, *(before if earlier else [])])


def _table(known: Confirmation) -> str:
    bounds = known.bounds()
    lines = [
        "## Finalists: trained again, scored on the test split",
        "",
        "| rank | configuration | test score | 95 % interval | questions | by seed | search score |",
        "|---:|---|---:|---:|---:|---|---:|",
    ]
    for rank, one in enumerate(known.finals, start=1):
        by_seed = ", ".join(percent(value) for value in one.scores.mean(1)) if len(one.scores) > 1 else "-"
        cells = [rank, one.name, percent(one.score), span(bounds[one.name]), one.scores.shape[1], by_seed]
        lines.append("| " + " | ".join(map(str, [*cells, percent(one.searched)])) + " |")
    conclusions = ["", *(f"- {line}." for line in verdict(known)), ""]
    return "\n".join([*lines, *conclusions, *pair_comparison.markdown(known)])


def print_finals(known: Confirmation, earlier: Sequence[Confirmation] = ()) -> None:
    """Print the finalists and the verdict, and a line for each earlier look."""
    if known.finals:
        _print_finals(known)
    for line in of_earlier(earlier):
        print(line)


def _print_finals(known: Confirmation) -> None:
    bounds = known.bounds()
    print("\nfinalists, trained again with other seeds, on the test split:")
    for rank, one in enumerate(known.finals, start=1):
        searched = f", search {percent(one.searched)}" if one.searched is not None else ""
        seeds = f", {len(one.scores)} seeds" if len(one.scores) > 1 else ""
        print(f"  {rank}. {one.name}: {percent(one.score)} ({span(bounds[one.name])}){seeds}{searched}")
    for line in verdict(known):
        print(line)
