"""Do a few configurations that were good elsewhere save a new sweep anything? Chosen and judged on recorded curves.

    python benchmarks/portfolio.py --curves FOLDER benchmarks/bank

A portfolio is chosen from recordings with the same axes, for coverage: one after the other, the configuration is added
that lowers the mean regret of the portfolio's best most, of equal ones that with the lowest regret of its own
(greedily, as in auto-sklearn: Feurer et al. 2015). A
configuration's regret on a recording is how far the nearest recorded one lies below the best there, as a share of how
far the median does, at most 1.

Each recording is left out once: sweeps on it are replayed cold, and with the portfolio that the others choose tried
first. Where the axes are those of LoRA, its default comes before both; rates are then printed as multiples of it.
*cost*: of 64 full trainings, until the pick is within 1 point of what the cold search picks at its end, in the mean of
repetitions; a search that does not get there counts with all that it spent. *points ahead of random*: by how much the
best of the configurations that are tried first is better than the best of as many random ones.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
import optuna

from benchmarks import rivals
from benchmarks.curves import Curves, Seen, read_folder
from benchmarks.like import WITHIN
from benchmarks.replay import Events, first_reach, outcome, play
from benchmarks.search import CONFIRMATION, QUESTIONS, RESAMPLES, TRIALS
from sweeps.results.trial_params import TrialParams
from trainables.learners.lm.lora import LoraConfig
from trainables.options import rates

LORA = LoraConfig()


@dataclass(frozen=True)
class Job:
    """A recording that is left out, and what those with the same axes choose."""

    new: Curves
    portfolio: Sequence[Mapping[str, Any]]
    repetitions: int


@dataclass(frozen=True)
class Judged:
    """What a portfolio does on a recording that did not choose it. Costs in 64 full trainings, scores in [0, 1]."""

    cold: float
    warm: float
    last: float  # by how much the last pick is better than the cold search's
    ahead: float  # by how much its best configuration is better than the mean best of as many random ones


def has_default(curves: Curves) -> bool:
    return set(curves.space.axes) <= {field.name for field in fields(LORA)}


def regrets(curves: Curves, params: Mapping[str, Any]) -> float:
    """Return the regret of a configuration on a recording, in [0, 1]; 1 if it is no better than the median."""
    final = curves.true[:, -1]
    best, usual = float(final.max()), float(np.median(final))
    own = float(final[curves.distances(params).argmin()])
    return min(1.0, (best - own) / (best - usual)) if best > usual else 0.0


def choose(recordings: Sequence[Curves], size: int) -> list[Mapping[str, Any]]:
    """Return the portfolio of recordings with the same axes, the configuration that helps most first."""
    known = [one for curves in recordings for one in curves.params]
    table = np.array([[regrets(curves, one) for curves in recordings] for one in known])
    covered, chosen = np.ones(len(recordings)), list[Mapping[str, Any]]()
    for _ in range(size):
        left = [place for place, one in enumerate(known) if one not in chosen]
        best = min(left, key=lambda place: (np.minimum(table[place], covered).mean(), table[place].mean()))
        covered = np.minimum(table[best], covered)
        chosen.append(known[best])
    return chosen


def judge(job: Job) -> Judged:
    """Replay sweeps on the recording that was left out, cold and with the portfolio first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, final = job.new.space, job.new.true[:, -1]
    default = [{name: getattr(LORA, name) for name in space.axes}] if has_default(job.new) else []
    first = [TrialParams("", dict(one)) for one in (*default, *job.portfolio) if space.contains(one)]
    found = []
    for tried in (first[: len(default)], first):
        trials = min(TRIALS, len(job.new))
        searches = [rivals.default(job.new, number, trials, tried) for number in range(job.repetitions)]
        sweeps = [play(job.new, Seen(job.new, number), own) for number, own in enumerate(searches)]
        unit, rng = TRIALS * job.new.full_cost, np.random.default_rng(0)
        found.append(outcome(Events.of(sweeps), unit, CONFIRMATION, rng))
    cold, warm = found
    costs = [first_reach(own.searched, cold.last - WITHIN) or own.spent for own in found]
    best = max((float(final[job.new.distances(one.fields).argmin()]) for one in first), default=0.0)
    random = np.random.default_rng(0).choice(final, (2000, max(1, len(first)))).max(1).mean()
    return Judged(*costs, warm.last - cold.last, best - float(random))


def interval(values: Sequence[float]) -> str:
    """Return the mean of values of recordings and its 95 % interval from a bootstrap over them, in points."""
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{100 * np.mean(values):+.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def main(argv: Sequence[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--curves", type=Path, nargs="+", required=True, metavar="FOLDER")
    flags.add_argument("--size", type=int, default=3, help="configurations of a portfolio")
    flags.add_argument("--repetitions", type=int, default=10)
    flags.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = flags.parse_args(argv)
    groups: dict[tuple[str, ...], list[Curves]] = {}
    for curves in (one for folder in given.curves for one in read_folder(folder, QUESTIONS, "rows")):
        groups.setdefault(tuple(sorted(curves.space.axes)), []).append(curves)
    for axes, own in groups.items():
        if len(own) < 2:
            print(f"{own[0].name}: no other recording has the axes {', '.join(axes)}")
            continue
        print(f"\n{len(own)} recordings of {', '.join(axes)}. The portfolio of all of them:")
        for one in choose(own, given.size):
            times = {name: one[name] / getattr(LORA, name) for name in rates(LORA)} if has_default(own[0]) else {}
            print(f"  {json.dumps({**one, **times})}")
        jobs = [Job(new, choose([one for one in own if one is not new], given.size), given.repetitions) for new in own]
        print("\n| left out | cold | with the portfolio | points at the end | points ahead of random |")
        print("|---|---:|---:|---:|---:|")
        with ProcessPoolExecutor(given.processes) as pool:
            found = []
            for job, one in zip(jobs, pool.map(judge, jobs), strict=True):
                found.append(one)
                cells = f"{one.cold:.2f} | {one.warm:.2f} | {100 * one.last:+.1f} | {100 * one.ahead:+.1f}"
                print(f"| {job.new.name} | {cells} |", flush=True)
        cold, warm = (np.mean([getattr(one, name) for one in found]) for name in ("cold", "warm"))
        points = " | ".join(interval([getattr(one, name) for one in found]) for name in ("last", "ahead"))
        print(f"| mean | {cold:.2f} | {warm:.2f} | {points} |")


if __name__ == "__main__":
    main()
