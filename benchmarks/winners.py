"""How often does a sweep's winner deserve its name? Simulated sweeps, judged by the rules of the leaderboard.

    python benchmarks/winners.py            # 1,000 sweeps of each kind; two minutes

A configuration has a true score; training adds a seed's luck (standard deviation 2 points); every item has a difficulty
that all configurations share, and a taste of each configuration's own, which makes it easier for one and harder for
another. 16 configurations are searched with one seed on 250 items, as in the arena; the best five are trained again
with three seeds and asked the 500 test items. `inside`: how often the interval of a finalist holds its true score.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.results.comparison import compare, first_group
from sweeps.results.uncertainty import intervals

CONFIGURATIONS, FINALISTS, SEEDS = 16, 5, 3
SEARCH, TEST = 250, 500
SEED_LUCK = 0.02  # standard deviation of a score from seed to seed
BASE_SCORE = 0.5


def sweep(better: float, taste: float, rng: np.random.Generator) -> tuple[bool, bool, bool, float]:
    """Simulate a sweep in which configuration 0 is better by `better`.

    Return whether a winner was declared, whether it was configuration 0, whether any finalist was called worse than the
    best, and the share of finalists whose interval holds their true score.
    """
    truth = np.full(CONFIGURATIONS, BASE_SCORE)
    truth[0] += better
    searched = [answers(score, difficulties(SEARCH, taste, rng)[0], 1, rng).mean() for score in truth]
    best = np.argsort(searched)[-FINALISTS:]
    easier = difficulties(TEST, taste, rng)
    finals = {str(i): answers(truth[i], own, SEEDS, rng) for i, own in zip(best, easier, strict=True)}
    group, bounds = first_group(compare(finals)), intervals(finals)
    inside = np.mean([low <= truth[int(name)] <= high for name, (low, high) in bounds.items()])
    return len(group) == 1, group == ["0"], len(group) < FINALISTS, float(inside)


def difficulties(count: int, taste: float, rng: np.random.Generator) -> np.ndarray:
    """Return, as (FINALISTS, count), how much easier than the average each item is for each finalist, in score."""
    return rng.uniform(-0.35, 0.35, count) + rng.uniform(-taste, taste, (FINALISTS, count))


def answers(score: float, easier: np.ndarray, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """Return 1.0 for each right answer and 0.0 for each wrong one, as (seeds, items)."""
    luck = rng.normal(0, SEED_LUCK, (seeds, 1))
    return (rng.random((seeds, easier.size)) < np.clip(score + luck + easier, 0, 1)).astype(float)


def rates(better: float, taste: float, sweeps: int, seed: int = 0) -> list[float]:
    """Return the shares of sweeps that declared a winner, that declared the right one and that told any two apart, and
    of finalists whose interval holds their true score."""
    rng = np.random.default_rng(seed)
    told = np.array([sweep(better, taste, rng) for _ in range(sweeps)])
    return told.mean(0).tolist()


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| configuration 0 is better by | taste | a winner is declared | it is 0 | one is called worse | inside |")
    print("|---:|---:|---:|---:|---:|---:|")
    for points in (0, 2, 5, 10):
        for taste in (0.0, 0.3):
            found = " | ".join(f"{rate:.1%}" for rate in rates(points / 100, taste, 1000))
            print(f"| {points} points | {100 * taste:.0f} | {found} |", flush=True)


if __name__ == "__main__":
    main()
