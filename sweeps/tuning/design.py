"""Design a sweep that fits into the time one has: `--minutes`.

Half of the time goes to the search, or less where the finalists need more of it to show anything, and the rest to the
finalists. Within both, sizes are chosen that fit by what a probe measured. What the user gave stays as it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from sweeps.resources.placement import Placement
from sweeps.results.allocation import MOST_QUESTIONS, PRIOR_SEED
from sweeps.results.finals import counted
from sweeps.results.power import Plan, best_plan
from sweeps.results.run_folder import SWEEP_FILE, Run
from sweeps.results.rungs import decided_at
from sweeps.spec.sweep import Sweep
from sweeps.spec.warm_start import FIRST
from trainables.bad_input import BadInput, reading

SHARES = (1 / 2, 1 / 3, 1 / 4)  # of the time, for the search
FEWEST = 3  # trials of each pair: its default, and two others
FEWEST_QUESTIONS = 20  # of the search
ENOUGH = 0.2  # a design that shows larger differences only is called out
FINE = 0.05  # a difference; as long as it is shown, there are more finalists than the best of each pair
SPARE = 2  # times as many trials as expected may start, if there is time
END_S, END = 5.0, 0.03  # for the report and the end of Ray: seconds, and a share of all time
STARTS_S = 20.0  # in which the processes of trials and of finalists start
RESULT_S = 0.1  # of Ray, Tune and Optuna for a round, whatever runs beside
MOST_TRIALS = 1000
FIELDS = ("num_samples", "rounds", "grace_period", "finalists", "search_size", "test_size")  # what a design chooses


class NoTime(BadInput):
    """The minutes are too few for any design."""


@dataclass(frozen=True)
class Costs:
    """The seconds that parts of a trial take on this hardware, with `lanes` trials side by side; means over pairs.

    Learners with a model for each question (`per_example`) train for each of them in every round, also as finalists,
    and with one seed if these models have nothing in common (`independent`). `test_s`: the seconds for a question of
    the test split in a round, and `open_s` before the first, if they differ.
    """

    train_s: float  # a round
    ask_s: float  # a question
    lanes: int
    test_questions: int  # that finalists can be asked, at most
    per_example: bool = False
    independent: bool = False
    test_s: float | None = None
    open_s: float = 0.0

    def round_s(self, questions: int) -> float:
        """Return the seconds of a round of the search, for all lanes together."""
        return (self.train_s + questions * self.ask_s) / self.lanes + RESULT_S

    def finalist(self, rounds: int) -> tuple[float, float]:
        """Return the seconds of a finalist's training, and of a question that it is asked, for all lanes together."""
        asked, ask_s = rounds if self.per_example else 1, self.ask_s if self.test_s is None else self.test_s
        return rounds * self.train_s / self.lanes, (self.open_s + asked * ask_s) / self.lanes


@dataclass(frozen=True)
class Design:
    """The sizes of a sweep that fits into a time, the seconds of its parts, and the difference that it shows."""

    trials: int  # that are expected to start
    num_samples: int  # that start at most
    at_once: int  # that run at the same time
    rounds: int
    grace_period: int
    search_size: int  # questions of the search
    finalists: int  # configurations
    seeds: float  # of each finalist, on the average
    questions: int  # that finalists are asked at first
    round_s: float  # of the search, all trials that run side by side together
    search_s: float
    finalists_s: float
    shown: float  # the smallest difference of the best two finalists that is found in 80 % of cases; 1: none


def lanes_of(placement: Placement, at_once: int) -> int:
    """Return how many processes train side by side: the hosts, or without hosts the trials that run at once."""
    return lanes_of_base(placement, at_once) * (placement.bases if placement.shape else 1)


def lanes_of_base(placement: Placement, at_once: int) -> int:
    """Return how many of these processes serve one base; without hosts all, as every trial loads its own."""
    return placement.hosts if placement.shape else at_once


def most_test_questions(sweep: Sweep) -> int:
    """Return how many questions finalists can be asked, at most: no more than the test split's where each of them takes
    a training of its own."""
    task = sweep.pairs[0].task
    return len(task.test() if sweep.per_example else task.test_up_to(MOST_QUESTIONS))


def costs_of(sweep: Sweep, probes: Sequence[Mapping[str, Any]], lanes: int) -> Costs:
    """Return the costs from a probe of each pair (`probe.measure`), in `lanes` processes side by side."""
    train, ask = [], []
    for pair, one in zip(sweep.pairs, probes, strict=True):
        questions = len(pair.task.search())
        each = pair.learner.per_example
        train.append(0.0 if each else max(0.0, one["round_s"] - one["evaluation_s"]))
        ask.append((one["round_s"] if each else one["evaluation_s"]) / questions)
    test = fmean(one.get("test_question_s", own) for one, own in zip(probes, ask, strict=True))
    opened = fmean(one.get("test_open_s", 0.0) for one in probes)
    most = most_test_questions(sweep)
    return Costs(fmean(train), fmean(ask), lanes, most, sweep.per_example, sweep.independent, test, opened)


def design(sweep: Sweep, costs: Costs, seconds: float, fixed: Collection[str] = ()) -> Design:
    """Return the design for so many seconds. The sweep's values of `fixed` (of `FIELDS`) stay.

    Half of the time is the search's, or less if no design shows 20 points with a half. Of designs with equal shares,
    the one that shows most for its rounds is taken: differences are supposed to grow with the training, as the square
    root of its rounds. Raises NoTime if not one trial of each pair fits.
    """
    seconds, found = (1 - END) * seconds - END_S - STARTS_S, list[Design]()
    for share in SHARES if sweep.finalists else (1.0,):
        found += _designs(sweep, costs, seconds, share, fixed)
        if any(one.shown <= ENOUGH for one in found):
            break
    if not found:
        task = sweep.pairs[0].task
        named = {"search_size": f"task.{task.search_limit}", "test_size": f"task.{task.test_limit}"}
        flags = " ".join(f"--{named.get(name, name).replace('_', '-')}" for name in sorted(fixed))
        trainings = counted(1 if costs.independent else 2, "training")
        raise NoTime(
            f"--minutes {sweep.minutes:g}:",
            f"a trial of each learner and {trainings} of each finalist take longer, at {costs.round_s(1):.1f}"
            " s a round",
            f"give more minutes{(f', leave out {flags},' if flags else '')} or name fewer learners",
        )
    enough = [one for one in found if one.trials >= FEWEST * len(sweep.pairs)] or found
    shows = [one for one in enough if one.shown <= ENOUGH]
    if shows:
        return min(shows, key=lambda one: one.shown / math.sqrt(one.rounds))
    return min(enough, key=lambda one: one.shown)


def _designs(sweep: Sweep, costs: Costs, seconds: float, share: float, fixed: Collection[str]) -> Iterator[Design]:
    """Yield what fits with this share of the time for the search: for each schedule as many search questions as leave
    enough trials, and what fits with more of them."""
    for schedule in _schedules(sweep, fixed):
        for size in _search_sizes(sweep, costs, fixed):
            one = _with_finalists(sweep, costs, schedule, size, seconds, share, fixed)
            if one is not None:
                yield one
            if one is not None and one.trials >= FEWEST * len(sweep.pairs):
                break  # fewer questions would allow more trials, but each would be seen less well


class Schedule(NamedTuple):
    rounds: int
    grace_period: int


def _schedules(sweep: Sweep, fixed: Collection[str]) -> list[Schedule]:
    """Return lengths of trials, from the sweep's own down to one round by halves, each with its first rung."""
    lengths = [sweep.rounds]
    while lengths[-1] > 1 and "rounds" not in fixed:
        lengths.append(-(-lengths[-1] // 2))
    given, found = sweep.grace_period, []
    for rounds in lengths:
        own = dataclasses.replace(sweep, rounds=rounds, grace_period=given and min(given, rounds))
        found.append(Schedule(rounds, own.effective_grace_period()))
    return found


def _search_sizes(sweep: Sweep, costs: Costs, fixed: Collection[str]) -> list[int]:
    """Return numbers of search questions, the largest first: as many as there are, but no longer asked than trained."""
    task = sweep.pairs[0].task
    size = len(task.search())
    if not task.search_limit or "search_size" in fixed:
        return [size]
    if not costs.per_example and costs.ask_s:
        size = min(size, max(FEWEST_QUESTIONS, int(costs.train_s / costs.ask_s)))
    found = [size]
    while found[-1] // 2 >= FEWEST_QUESTIONS:
        found.append(found[-1] // 2)
    return found


def _with_finalists(
    sweep: Sweep,
    costs: Costs,
    schedule: Schedule,
    size: int,
    seconds: float,
    share: float,
    fixed: Collection[str],
) -> Design | None:
    """Return the design with this schedule and share of the time for the search; None if a part does not fit."""
    round_s, pairs = costs.round_s(size), len(sweep.pairs)
    given = "num_samples" in fixed
    trials = sweep.num_samples if given else _most_trials(sweep, schedule, share * seconds / round_s)
    search_s = expected_rounds(trials, schedule, sweep.reduction_factor, pairs) * round_s
    if trials < pairs or search_s > seconds:
        return None
    most = trials if given else SPARE * trials
    at_once = sweep.max_concurrent_trials or max(costs.lanes, -(-trials // 3))
    if not sweep.finalists:
        return Design(trials, most, at_once, *schedule, size, 0, 0, 0, round_s, share * seconds, 0.0, 1.0)
    search_s = search_s if given else share * seconds
    left = seconds - search_s
    count, plan = _finalists(sweep, costs, schedule.rounds, left, fixed)
    if plan is None:
        return None
    return Design(
        trials, most, at_once, *schedule, size, count, plan.seeds, plan.questions, round_s, search_s, left, plan.shown
    )


def _most_trials(sweep: Sweep, schedule: Schedule, rounds: float) -> int:
    """Return how many trials are expected to take no more than these rounds in all."""
    trials, pairs = 0, len(sweep.pairs)
    while trials < MOST_TRIALS and expected_rounds(trials + 1, schedule, sweep.reduction_factor, pairs) <= rounds:
        trials += 1
    return trials


def expected_rounds(trials: int, schedule: Schedule, reduction_factor: int, pairs: int) -> int:
    """Return the rounds of all trials: each rung keeps one in `reduction_factor`, and at least one of each pair."""
    total, before, count = 0, 0, trials
    for rung in decided_at(schedule.grace_period, reduction_factor, schedule.rounds):
        total, before = total + count * (rung - before), rung
        count = min(count, max(pairs, round(count / reduction_factor)))
    return total


def _finalists(
    sweep: Sweep, costs: Costs, rounds: int, seconds: float, fixed: Collection[str]
) -> tuple[int, Plan | None]:
    """Return how many finalists there are, and their plan: the best of each pair, or the best and the default of one;
    further ones as long as small differences are shown."""
    train_s, ask_s = costs.finalist(rounds)
    fewest, all_of_them = max(2, len(sweep.pairs)), sweep.finalists + len(sweep.pairs)
    least, most = 0, costs.test_questions
    if "test_size" in fixed:
        least = most = len(sweep.pairs[0].task.test())
    if "finalists" in fixed:
        fewest = all_of_them
    plans = {
        count: best_plan(count, train_s, ask_s, most, seconds, least, costs.independent)
        for count in range(fewest, all_of_them + 1)
    }
    fine = [count for count, plan in plans.items() if plan and plan.shown <= FINE]
    count = max(fine, default=fewest)
    return count, plans[count]


def with_design(sweep: Sweep, own: Design) -> Sweep:
    """Return the sweep with the sizes of a design."""
    task = sweep.pairs[0].task
    pairs = sweep.pairs
    if task.search_limit and len(task.search()) != own.search_size:
        pairs = tuple(dataclasses.replace(p, task=p.task.with_search_size(own.search_size)) for p in pairs)
    return dataclasses.replace(
        sweep,
        first=sweep.first[: max(len(pairs), own.trials // FIRST)],
        pairs=pairs,
        num_samples=own.num_samples,
        max_concurrent_trials=own.at_once,
        rounds=own.rounds,
        grace_period=own.grace_period,
    )


def design_of(folder: Path) -> Design | None:
    """Return the design that a sweep has kept in its folder; None if there is none."""
    facts = Run.read(folder).facts if (folder / SWEEP_FILE).is_file() else {}
    if "design" not in facts:
        return None
    with reading(folder / SWEEP_FILE):
        return Design(**facts["design"])


def in_words(sweep: Sweep, own: Design, costs: Costs, seconds: float, fixed: Collection[str] = ()) -> list[str]:
    """Describe a design in a few lines. If it does not show 20 points, this comes first, with what helps most."""
    rungs = decided_at(own.grace_period, sweep.reduction_factor, own.rounds)
    decides = f", the best go on after round {' and '.join(map(str, rungs[:-1]))}" if rungs[:-1] else ""
    lines = [
        f"design for {sweep.minutes:g} minutes, {seconds / 60:.1f} of them left",
        f"  search, {own.search_s / 60:.1f} min: about {own.trials} trials of up to {own.rounds} rounds{decides};"
        f" {own.search_size} questions after each round",
    ]
    if not own.finalists:
        return lines
    lines.append(
        f"  finalists, {own.finalists_s / 60:.1f} min: {own.finalists} configurations, about"
        f" {counted(round(own.seeds), 'training')} of each, {own.questions} test questions"
    )
    if own.shown > ENOUGH:
        remedy = _remedy(sweep, costs, seconds, fixed, own.shown)
        lines.insert(0, f"no design for {sweep.minutes:g} minutes shows 20 points{remedy}")
    luck = "" if costs.independent else f", if seeds differ by {100 * PRIOR_SEED:.0f} points (standard deviation)"
    lines.append(
        f"  it shows a difference of {100 * own.shown:.0f} points between the best two finalists, or a larger one, in"
        f" 80 % of cases{luck}"
    )
    return lines


def _remedy(sweep: Sweep, costs: Costs, seconds: float, fixed: Collection[str], shown: float) -> str:
    """Say which change lowers the smallest difference most; empty if none does."""
    options = {"twice the minutes": _shown(sweep, costs, 2 * seconds, fixed)}
    if len(sweep.pairs) > 1:
        fewer = dataclasses.replace(sweep, pairs=sweep.pairs[:-1])
        options["one --learner or --base fewer"] = _shown(fewer, costs, seconds, fixed)
    if "search_size" in fixed:
        options["fewer search questions"] = _shown(sweep, costs, seconds, {*fixed} - {"search_size"})
    if "test_size" not in fixed:
        more = dataclasses.replace(costs, test_questions=2 * costs.test_questions)
        options["twice the test questions"] = _shown(sweep, more, seconds, fixed)
    name, best = min(options.items(), key=lambda option: option[1])
    return f"; {name} would show {100 * best:.0f} instead of {100 * shown:.0f}" if best < shown else ""


def _shown(sweep: Sweep, costs: Costs, seconds: float, fixed: Collection[str]) -> float:
    try:
        return design(sweep, costs, seconds, fixed).shown
    except NoTime:
        return math.inf
