"""What do the trials of an earlier sweep save? Sweeps are replayed on recorded curves, with and without them.

    python benchmarks/like.py --curves FOLDER

For each ordered pair of recordings and each repetition: a sweep of 64 trials on the first one, and then sweeps on the
second, as `search.py` replays them: cold, and as `--like` would start them. The best configurations of the first sweep
are tried first (`first`), its trials are observations of the new one (`observations`), or both (`like`). Ranges stay as
they are: `transfer.py` measures their narrowing. With `--misled` the scores of the earlier trials are turned around: so
an earlier sweep that misleads is measured.

*cost*: of 64 full trainings, until the pick is within 1 point of what the cold search picks at its end, in the mean of
repetitions. *saved*: 1 - cost / cold cost, over all pairs whose new recording counts (see `search.py`), with a 95 %
interval from a bootstrap over new recordings. A search that does not get there counts with all that it spent.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
import optuna

from benchmarks import rivals
from benchmarks.curves import Curves, Seen, read_folder
from benchmarks.replay import Events, first_reach, outcome, play
from benchmarks.search import CONFIRMATION, QUESTIONS, RESAMPLES, TRIALS
from sweeps.results.records import TrialRecord
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import Observation, TrialParams
from sweeps.spec.warm_start import FIRST, best_fields, observed

WITHIN = 0.01
COLD, ONLY_FIRST, ONLY_SEEN, BOTH = "cold", "first", "observations", "like"
EARLIER = 10_000  # added to the number of a repetition, for the earlier sweep's luck


@dataclass(frozen=True)
class Job:
    """An earlier recording and a new one."""

    earlier: Curves
    new: Curves
    repetitions: int
    misled: bool


def costs(job: Job) -> dict[str, float]:
    """Return by search the cost until it is within 1 point of the cold search's last pick."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searches: dict[str, list] = {name: [] for name in (COLD, ONLY_FIRST, ONLY_SEEN, BOTH)}
    for number in range(job.repetitions):
        trials = earlier_trials(job.earlier, EARLIER + number, job.misled)
        first = [TrialParams("", one) for one in best_fields(job.new.space, trials)[: TRIALS // FIRST]]
        seen = observed("", job.new.space, trials)
        for name, (tried, known) in _starts(first, seen).items():
            search = rivals.default(job.new, number, TRIALS, tried, known)
            searches[name].append(play(job.new, Seen(job.new, number), search))
    unit, rng = TRIALS * job.new.full_cost, np.random.default_rng(0)
    found = {name: outcome(Events.of(own), unit, CONFIRMATION, rng) for name, own in searches.items()}
    target = found[COLD].last - WITHIN
    return {name: first_reach(own.searched, target) or own.spent for name, own in found.items()}


def _starts(
    first: Sequence[TrialParams], seen: Sequence[Observation]
) -> Mapping[str, tuple[Sequence[TrialParams], Sequence[Observation]]]:
    return {COLD: ((), ()), ONLY_FIRST: (first, ()), ONLY_SEEN: ((), seen), BOTH: (first, seen)}


def earlier_trials(curves: Curves, repetition: int, misled: bool) -> list[TrialRecord]:
    """Return the trials of a cold sweep; `misled`: with scores that are turned around."""
    search = rivals.default(curves, repetition, TRIALS)
    play(curves, Seen(curves, repetition), search)
    trials = search.trials(curves)
    return [replace(one, history=_turned(one.history)) for one in trials] if misled else trials


def _turned(history: TrialHistory) -> TrialHistory:
    return TrialHistory(tuple({**row, "score": 1 - row["score"]} for row in history if "score" in row))


def saved(found: Sequence[Mapping[str, float]], news: Sequence[str], name: str) -> str:
    """Return the share of the cold searches' cost that is saved, with its interval over new recordings."""
    cold, warm = (np.array([one[which] for one in found]) for which in (COLD, name))
    tasks = sorted(set(news))
    rows = [np.flatnonzero(np.array(news) == one) for one in tasks]
    rng = np.random.default_rng(0)
    drawn = [np.concatenate([rows[i] for i in rng.integers(len(tasks), size=len(tasks))]) for _ in range(RESAMPLES)]
    low, high = np.percentile([1 - warm[own].sum() / cold[own].sum() for own in drawn], (2.5, 97.5))
    return f"{1 - warm.sum() / cold.sum():.0%} [{low:.0%}, {high:.0%}]"


def main(argv: Sequence[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--curves", type=Path, required=True, metavar="FOLDER")
    flags.add_argument("--repetitions", type=int, default=4)
    flags.add_argument("--misled", action="store_true", help="turn the scores of earlier trials around")
    flags.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = flags.parse_args(argv)
    recordings = read_folder(given.curves, QUESTIONS, "rows")
    jobs = [Job(*pair, given.repetitions, given.misled) for pair in permutations(recordings, 2)]
    found = []
    with ProcessPoolExecutor(given.processes) as pool:
        for job, own in zip(jobs, pool.map(costs, jobs), strict=True):
            found.append(own)
            print(f"{job.earlier.name} -> {job.new.name}: {own}", file=sys.stderr, flush=True)
    news = [job.new.name for job in jobs]
    print("| search | cost | saved |\n|---|---:|---:|")
    for name in found[0]:
        told = "" if name == COLD else saved(found, news, name)
        print(f"| {name} | {np.mean([one[name] for one in found]):.2f} | {told} |")


if __name__ == "__main__":
    main()
