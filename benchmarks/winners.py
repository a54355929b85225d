"""How often does a sweep's winner deserve its name? Simulated sweeps, judged and continued by the rules of real ones.

    python benchmarks/winners.py            # 1,000 sweeps of each kind on all cores; an hour on two
    python benchmarks/winners.py --sweeps 100

A configuration has a true score; training adds a seed's luck (standard deviation 2 points); every item has a difficulty
that all configurations share, and a taste of each configuration's own, which makes it easier for one and harder for
another. 16 configurations are searched with one seed on 250 items, as in the arena; the best five are finalists. They
are trained again and asked test items in stages, as `sweeps/results/decision.py` plans them: from one seed and 500
items each to 30 seeds and 2,000 items. Costs are in trainings: one costs 1, and asking 700 items a third, as measured
on the arena. `--fixed` gives every finalist three seeds and a fixed number of items instead.

Columns: a winner is declared; it is the one best configuration; it is not better than every other finalist; it is not
better than every other configuration, one of which the search may have left behind; some finalist is called worse than
the best although all are equal; intervals of finalists that hold the true score; the costs of finalists, their median
and largest.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.results.allocation import Costs, Sizes, price
from sweeps.results.comparison import LEVEL, first_group
from sweeps.results.decision import FIRST_BUDGET, RESERVE, Budget, Progress, next_stage
from sweeps.results.uncertainty import intervals

CONFIGURATIONS, FINALISTS, SEEDS = 16, 5, 3
SEARCH, TEST = 250, 500
SEED_LUCK = 0.02  # standard deviation of a score from seed to seed
BASE_SCORE = 0.5
MOST_SEEDS, MOST_ITEMS = 30, 2000
ASK = 1 / 2100  # trainings that asking one item costs
KINDS = ((), (0.02,), (0.05,), (0.10,), (0.05, 0.05), (0.10, 0.10), (0.10, 0.10, 0.10))  # how much the best are better


@dataclass(frozen=True)
class Outcome:
    """One simulated sweep."""

    declared: bool
    right: bool
    false: bool  # another finalist is as good
    left_behind: bool  # another configuration is as good
    worse: bool
    inside: float
    cost: float


def sweep(better: Sequence[float], taste: float, items: int, fixed: bool, seed: int) -> Outcome:
    """Simulate a sweep in which the first configurations are better by so much."""
    rng = np.random.default_rng(seed)
    truth = np.full(CONFIGURATIONS, BASE_SCORE)
    truth[: len(better)] += better
    searched = [answers(score, difficulties(SEARCH, taste, rng)[0], 1, rng).mean() for score in truth]
    best = np.argsort(searched)[-FINALISTS:]
    easier = difficulties(max(items, MOST_ITEMS), taste, rng)
    known = {str(i): answers(truth[i], own, MOST_SEEDS, rng) for i, own in zip(best, easier, strict=True)}
    if fixed:
        sizes: Sizes = dict.fromkeys(known, (SEEDS, items))
        now, cost = Progress(first(known, sizes)), FINALISTS * SEEDS * (1 + items * ASK)
    else:
        now, cost = in_stages(known, items)
    group = first_group(now.comparisons())
    winner = int(group[0]) if len(group) == 1 else None
    others = [i for i in best if i != winner]
    bounds = intervals(now.scores)
    return Outcome(
        declared=winner is not None,
        right=winner is not None and bool((truth < truth[winner]).sum() == CONFIGURATIONS - 1),
        false=winner is not None and truth[others].max() >= truth[winner],
        left_behind=winner is not None and np.delete(truth, winner).max() >= truth[winner],
        worse=not better and len(group) < FINALISTS,
        inside=float(np.mean([low <= truth[int(name)] <= high for name, (low, high) in bounds.items()])),
        cost=cost,
    )


def in_stages(known: Mapping[str, np.ndarray], items: int) -> tuple[Progress, float]:
    """Continue finalists as a sweep does; `known` has all that they could answer."""
    costs = Costs(dict.fromkeys(known, 1.0), dict.fromkeys(known, ASK), dict.fromkeys(known, MOST_SEEDS), MOST_ITEMS)
    sizes: Sizes | None = dict.fromkeys(known, (1, items))
    now = Progress({}, seconds=FINALISTS * (1 + items * ASK))
    budget = Budget(FIRST_BUDGET * now.seconds, LEVEL * (1 - RESERVE), early=True)
    while sizes is not None:
        now = replace(now, scores=first(known, sizes))
        if look := now.look(budget):
            now = replace(now, looks=[*now.looks, look])
        more = next_stage(now, budget, costs)
        if more is not None:
            now = replace(now, seconds=now.seconds + price(sizes, more, costs))
        sizes = more
    return now, now.seconds


def first(known: Mapping[str, np.ndarray], sizes: Sizes) -> dict[str, np.ndarray]:
    return {name: known[name][:seeds, :items] for name, (seeds, items) in sizes.items()}


def difficulties(count: int, taste: float, rng: np.random.Generator) -> np.ndarray:
    """(FINALISTS, count): how much easier than the average an item is for each, in score."""
    return rng.uniform(-0.35, 0.35, count) + rng.uniform(-taste, taste, (FINALISTS, count))


def answers(score: float, easier: np.ndarray, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """(seeds, items) right or wrong."""
    luck = rng.normal(0, SEED_LUCK, (seeds, 1))
    return (rng.random((seeds, easier.size)) < np.clip(score + luck + easier, 0, 1)).astype(float)


def row(better: Sequence[float], taste: float, found: Sequence[Outcome]) -> str:
    """Format the shares of sweeps, and the costs."""

    def share(name: str) -> str:
        return f"{np.mean([getattr(one, name) for one in found]):.1%}"

    kind = " and ".join(f"{100 * one:+.0f}" for one in better) or "all equal"
    shares = [share(name) for name in ("declared", "right", "false", "left_behind", "worse", "inside")]
    costs = [one.cost for one in found]
    cells = [kind, f"{100 * taste:.0f}", *shares, f"{np.median(costs):.1f}", f"{max(costs):.1f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=1000, help="of each kind")
    parser.add_argument(
        "--fixed", type=int, nargs="*", metavar="ITEMS", help="three seeds and so many items, no stages"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    print(
        "| best configurations | taste | declared | right | false | left behind | called worse | inside | cost | most |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    sizes = [TEST] if asked.fixed is None else asked.fixed or [100, 500, 2000]
    with ProcessPoolExecutor(asked.processes) as pool:
        for items in sizes:
            if asked.fixed is not None:
                print(f"| **{items} items** | | | | | | | | | |")
            for better in KINDS:
                for taste in (0.0, 0.3):
                    one = partial(sweep, better, taste, items, asked.fixed is not None)
                    print(row(better, taste, list(pool.map(one, range(asked.sweeps), chunksize=10))), flush=True)


if __name__ == "__main__":
    main()
