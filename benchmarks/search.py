"""What is a searcher worth? Whole sweeps are replayed on recorded curves, in seconds.

    python benchmarks/search.py                        # the curves in benchmarks/bank
    python benchmarks/search.py --curves FOLDER        # others; `benchmarks/curves.py` says what a file has
    python benchmarks/search.py --curves FOLDER --only "random 64" default --repetitions 20     # quicker

A repetition is one sweep. It sees the score of each round as a sweep does: as answers to 250 questions, drawn anew in
each repetition (of recorded answers: drawn with replacement). What it picks is judged by the true score, without noise.
A suggestion becomes the nearest recorded configuration that the sweep has not used, and the sampler is told that one.
No default is put first. Model-based methods see the same scores in the same repetition. Asynchronous ones run four
trials at once, in the order in which rounds would end. `default` is the searcher and the scheduler that a sweep uses by
default, the code itself, with its study in memory.

Cost: the rows that training and asking took, or the seconds (`--cost seconds`), where they were recorded; otherwise
every round costs the same. Costs are given as a share of random search of 64 full trainings. The reference is what that
random search picks, in the mean over 1,000 repetitions.

- *cost*: the share at which a method's pick first reaches the reference, in the mean over repetitions, and for all
  tasks together in the mean over repetitions and tasks. After every round of any trial, a search picks the trial with
  the highest score of all rounds so far; random search and stages look at the last round. If the pick does not reach
  the reference within a cost of 1, or the search has ended before that, the cost is "> 1". Intervals are 95 %, by a
  bootstrap over tasks.
- *with confirmation*: the best 5 are trained again with 2 seeds each and asked 500 new questions each time, and the
  best of them is picked: for the method at every cost and for the reference alike. These 10 full trainings are added to
  the cost of both.
- *at the end*: points of the last pick above the reference, however little the search has spent.

A task counts if random search of 64 picks a configuration at least 2 points better than random search of 8. On others
there is little to find, and the question is how early a search stops: they are shown with what it spent.

Rivals have 64 trials, as the default has. Those of Syne Tune take part where it is installed (`pip install syne-tune`);
they are slow, so BOHB has at most 10 repetitions and ASHACQR 2. ASHA's and halving's first rung is that of a sweep
by default, after an eighth of the rounds.

What tunes a method must not report it: use one folder of curves for changes and another one for figures.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
import optuna

from benchmarks import rivals, syne_rivals
from benchmarks.curves import BadCurves, Curves, Seen, read_folder
from benchmarks.replay import GRID, Confirmation, Events, Outcome, Search, Stages, first_reach, in_stages, outcome, play
from sweeps.results.rungs import decided_at
from sweeps.spec.sweep import Sweep
from sweeps.tuning.confirmation import FEWEST_SEEDS

TRIALS = 64  # of the reference and of every method
FEW = 8  # trials of the random search from which the reference must differ
COUNTS = 0.02  # by so much, for a task to count
QUESTIONS = 250  # in a round
CONFIRMATION = Confirmation(Sweep.finalists, FEWEST_SEEDS, 500)
REFERENCE, DEFAULT, WHOLE = f"random {TRIALS}", "default", "default, all trials"
TOO_EARLY = 0.02  # a search that ends by itself with a pick worse by more than this has ended too early
ONE_EPOCH = 16  # no pass over the data is recorded: an epoch is taken to be a sixteenth of the rounds
RESAMPLES = 2_000  # of the bootstrap
SEARCHES: dict[str, Callable[[Curves, int, int], Search]] = {
    DEFAULT: rivals.default,
    WHOLE: rivals.whole,
    "Ray's ASHA, random": rivals.ray_asha,
    "Optuna, median": rivals.optuna_median,
    "Optuna, halving": rivals.optuna_halving,
    "Optuna, Hyperband": rivals.optuna_hyperband,
}
OF_SYNE_TUNE = {"Syne Tune, BOHB": syne_rivals.bohb, "Syne Tune, ASHACQR": syne_rivals.asha_cqr}
MOST_REPETITIONS = {"Syne Tune, BOHB": 10, "Syne Tune, ASHACQR": 2}  # slow ones: 2 and 50 seconds a sweep


def stages_of(curves: Curves) -> dict[str, Stages]:
    """Return the schedules with random configurations, by name."""
    rungs = decided_at(curves.grace, Sweep.reduction_factor, curves.rounds)
    sizes = tuple(max(1, TRIALS // Sweep.reduction_factor**place) for place in range(len(rungs)))
    full = (curves.rounds,)
    epoch = (max(1, curves.rounds // ONE_EPOCH), curves.rounds)
    return {
        REFERENCE: Stages((TRIALS,), full),
        f"random {FEW}": Stages((FEW,), full),
        "random 16": Stages((16,), full),
        "one epoch, best 4": Stages((TRIALS, 4), epoch),
        f"halving {TRIALS}": Stages(sizes, tuple(rungs)),
        f"halving {TRIALS}, mean of 3": Stages(sizes, tuple(rungs), mean=3),
    }


@dataclass(frozen=True)
class TaskResult:
    """All methods on one task."""

    name: str
    best: float  # the true score of the best configuration after its last round
    outcomes: Mapping[str, Outcome]

    @property
    def reference(self) -> Outcome:
        return self.outcomes[REFERENCE]

    @property
    def counts(self) -> bool:
        return self.reference.last - self.outcomes[f"random {FEW}"].last >= COUNTS

    def gaps(self, method: str) -> tuple[np.ndarray, np.ndarray]:
        """Return how much better the pick is than the reference's at each cost, without and with confirmation."""
        own = self.outcomes[method]
        return own.searched - self.reference.last, own.confirmed - self.reference.last_confirmed

    def points(self, method: str) -> float:
        """Return the points of the last pick above the reference."""
        return 100 * (self.outcomes[method].last - self.reference.last)

    def points_from(self, method: str, other: str) -> float:
        """Return the points of the pick above that of another method, at the cost at which that one ends."""
        at = np.searchsorted(GRID, min(1.0, self.outcomes[other].spent))
        return 100 * float(self.outcomes[method].searched[at] - self.outcomes[other].searched[at])


def replay_task(curves: Curves, methods: Sequence[str], repetitions: int, random_repetitions: int) -> TaskResult:
    """Replay all methods on one task."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    unit, outcomes = TRIALS * curves.full_cost, {}
    for place, (name, stages) in enumerate(stages_of(curves).items()):
        if name in methods:
            rng = np.random.default_rng(place)
            events = in_stages(curves, stages, random_repetitions, rng)
            outcomes[name] = outcome(events, unit, CONFIRMATION, rng)
    for name, make in (SEARCHES | OF_SYNE_TUNE).items():
        if name in methods:
            numbers = range(min(repetitions, MOST_REPETITIONS.get(name, repetitions)))
            sweeps = [play(curves, Seen(curves, one), make(curves, one, TRIALS)) for one in numbers]
            outcomes[name] = outcome(Events.of(sweeps), unit, CONFIRMATION, np.random.default_rng(0))
    return TaskResult(curves.name, float(curves.true[:, -1].max()), outcomes)


def spread(values: np.ndarray) -> str:
    """Return the 95 % interval of a mean over tasks: percentiles of a bootstrap."""
    means = resampled(len(values)) @ values
    low, high = np.percentile(means, (2.5, 97.5))
    return f" [{low:+.1f}, {high:+.1f}]" if len(values) > 1 else ""


def resampled(tasks: int) -> np.ndarray:
    """(RESAMPLES, tasks): the weight of each task in each resample."""
    return np.random.default_rng(0).multinomial(tasks, np.full(tasks, 1 / tasks), size=RESAMPLES) / tasks


def costs_over(counted: Sequence[TaskResult], method: str) -> list[str]:
    """Return the costs at which the pick reaches the reference in the mean over tasks, without and with confirmation.

    With several tasks, each has its interval.
    """
    if method == REFERENCE:
        return ["1", "1"]
    found = []
    for part, extra in ((0, 0), (1, CONFIRMATION.trainings)):
        gaps = np.array([one.gaps(method)[part] for one in counted])
        costs = [_with(first_reach(own, 0.0), extra) for own in (gaps.mean(0), *(resampled(len(counted)) @ gaps))]
        low, high = np.quantile([math.inf if one is None else one for one in costs[1:]], (0.025, 0.975), method="lower")
        found.append(f"{_told(costs[0])} [{_told(low)}, {_told(high)}]" if len(counted) > 1 else _told(costs[0]))
    return found


def _with(cost: float | None, trainings: int) -> float | None:
    """Return a cost with further trainings, on both sides."""
    return None if cost is None else (TRIALS * cost + trainings) / (TRIALS + trainings)


def _told(cost: float | None) -> str:
    return "> 1" if cost is None or math.isinf(cost) else f"{cost:.2f}"


def tasks_table(results: Sequence[TaskResult]) -> list[str]:
    lines = [
        f"| | task | random {FEW} | {REFERENCE} | best | counts |",
        "|---:|---|---:|---:|---:|---|",
    ]
    for number, one in enumerate(results, 1):
        few, many = one.outcomes[f"random {FEW}"].last, one.reference.last
        scores = " | ".join(f"{100 * score:.1f}" for score in (few, many, one.best))
        lines.append(f"| {number} | {one.name} | {scores} | {'yes' if one.counts else 'no'} |")
    return lines


def by_task_table(results: Sequence[TaskResult], methods: Sequence[str]) -> list[str]:
    """Show each task: the cost, or where it does not count what was spent, and the points at the end."""
    counted = [str(number) if one.counts else f"{number}, spent" for number, one in enumerate(results, 1)]
    lines = ["| method | " + " | ".join(counted) + " |", "|---|" + "---:|" * len(results)]
    for method in methods:
        cells = []
        for one in results:
            cost = first_reach(one.gaps(method)[0], 0.0) if one.counts else one.outcomes[method].spent
            told = "1" if method == REFERENCE else _told(cost)
            cells.append(f"{told}, {one.points(method):+.1f}")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def summary_table(counted: Sequence[TaskResult], methods: Sequence[str]) -> list[str]:
    """Show means over the tasks that count."""
    lines = [
        "| method | cost | with confirmation | at the end, points | spent | points from default, at its cost |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for method in methods:
        points = np.array([one.points(method) for one in counted])
        spent = np.mean([one.outcomes[method].spent for one in counted])
        cells = [*costs_over(counted, method), f"{points.mean():+.1f}{spread(points)}", f"{spent:.2f}"]
        apart = [one.points_from(method, DEFAULT) for one in counted if DEFAULT in methods and method != DEFAULT]
        cells.append(f"{np.mean(apart):+.1f}{spread(np.array(apart))}" if apart else "")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def early_ends(results: Sequence[TaskResult]) -> str:
    """Say how often the default search ends before all trials have started, and how often that was too early: a search
    of all trials, which sees the same scores, ends with a pick that is better by more than `TOO_EARLY`."""
    counts = np.array([one.outcomes[DEFAULT].started for one in results])
    lost = np.array([one.outcomes[WHOLE].picks - one.outcomes[DEFAULT].picks for one in results])
    by_task = ", ".join(f"{mean:.0f}" for mean in counts.mean(1))
    early, lost = f"{(counts < TRIALS).mean():.0%}", f"{(lost > TOO_EARLY).mean():.1%}"
    return (
        f"ends by itself: {early} of sweeps, after {counts.mean():.0f} of {TRIALS} trials on the average (by task"
        f" {by_task}); too early, by more than {100 * TOO_EARLY:.0f} points: {lost}"
    )


def last_line(results: Sequence[TaskResult], method: str) -> str:
    counted = [one for one in results if one.counts]
    if not counted:
        return f"cost against {REFERENCE}: no task counts: it finds less than 2 points more than random {FEW}"
    search, confirmed = (told.partition(" [")[0] for told in costs_over(counted, method))
    return f"cost against {REFERENCE}: {search}, with confirmation: {confirmed}"


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--curves", type=Path, nargs="+", default=[Path(__file__).parent / "bank"], metavar="FOLDER")
    flags.add_argument("--cost", choices=("rows", "seconds"), default="rows", help="of recordings that have both")
    flags.add_argument("--plot", type=Path, metavar="FILE", help="write a figure, a PNG")
    flags.add_argument("--only", nargs="+", metavar="METHOD", help="these methods, beside random search")
    flags.add_argument("--repetitions", type=int, default=100, help="of model-based methods")
    flags.add_argument("--random-repetitions", type=int, default=1000, help="of random search and stages")
    flags.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="tasks that are replayed side by side"
    )
    given = flags.parse_args(argv)
    needed = [REFERENCE, f"random {FEW}"]
    try:
        known = [one for folder in given.curves for one in read_folder(folder, QUESTIONS, given.cost)]
        given.recordings = [one for one in known if len(one) >= TRIALS]
        small = [f"{one.name} has {len(one)} configurations" for one in known if len(one) < TRIALS]
        if not given.recordings:
            raise BadCurves(f"{'; '.join(small)}; random search of {TRIALS} needs as many")
        if small:
            print(f"left out: {'; '.join(small)} ({TRIALS} are needed)\n")
    except BadCurves as error:
        flags.error(str(error))
    names = [*stages_of(given.recordings[0]), *SEARCHES, *OF_SYNE_TUNE]
    if unknown := [name for name in given.only or () if name not in names]:
        flags.error(f"--only {unknown[0]!r} is no method; methods are {', '.join(names)}")
    given.methods = [name for name in names if given.only is None or name in [*given.only, *needed]]
    lacking = syne_rivals.missing()
    if lacking and (left := [name for name in given.methods if name in OF_SYNE_TUNE]):
        print(f"left out: {'; '.join(left)} (not installed: {', '.join(lacking)}); pip install syne-tune\n")
        given.methods = [name for name in given.methods if name not in left]
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given = parsed(argv)
    start = time.monotonic()
    one = partial(
        replay_task,
        methods=given.methods,
        repetitions=given.repetitions,
        random_repetitions=given.random_repetitions,
    )
    results: list[TaskResult] = []
    with ProcessPoolExecutor(given.processes) as pool:
        many: Any = pool.map if given.processes > 1 else map
        for done in many(one, given.recordings):
            results.append(done)
            print(f"{done.name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    if given.plot is not None:
        from benchmarks.search_plot import draw

        draw(results, given.methods, REFERENCE, given.plot)
    counted = [one for one in results if one.counts]
    print("\n".join(tasks_table(results)), end="\n\n")
    print("\n".join(by_task_table(results, given.methods)), end="\n\n")
    if counted:
        print("\n".join(summary_table(counted, given.methods)), end="\n\n")
    if {DEFAULT, WHOLE} <= {*given.methods}:
        print(early_ends(results), end="\n\n")
    print(last_line(results, DEFAULT if DEFAULT in given.methods else given.methods[-1]))


if __name__ == "__main__":
    main()
