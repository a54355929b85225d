"""How often does a sweep's winner deserve its name? Simulated sweeps, judged by the rules of the leaderboard.

    python benchmarks/winners.py            # 200 sweeps of each kind; a few seconds

A configuration has a true score; training adds a seed's luck (standard deviation 2 points); every item has a difficulty
that all configurations share. 16 configurations are searched with one seed on 250 items, as in the arena; the best
five are trained again with three seeds and asked the 500 test items.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from sweeps.results.comparison import compare, first_group

CONFIGURATIONS, FINALISTS, SEEDS = 16, 5, 3
SEARCH, TEST = 250, 500
SEED_LUCK = 0.02  # standard deviation of a score from seed to seed
BASE_SCORE = 0.5


def sweep(better: float, rng: np.random.Generator) -> tuple[bool, bool, bool]:
    """One sweep in which configuration 0 is better by so much -> was a winner declared, was it that one, and was any
    finalist said to be worse than the best?"""
    truth = np.full(CONFIGURATIONS, BASE_SCORE)
    truth[0] += better
    searched = [answers(score, difficulties(SEARCH, rng), 1, rng).mean() for score in truth]
    best = np.argsort(searched)[-FINALISTS:]
    items = difficulties(TEST, rng)
    group = first_group(compare({str(i): answers(truth[i], items, SEEDS, rng) for i in best}))
    return len(group) == 1, group == ["0"], len(group) < FINALISTS


def difficulties(count: int, rng: np.random.Generator) -> np.ndarray:
    """How much easier than the average an item is, in score."""
    return rng.uniform(-0.35, 0.35, count)


def answers(score: float, easier: np.ndarray, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """(seeds, items) right or wrong."""
    luck = rng.normal(0, SEED_LUCK, (seeds, 1))
    return (rng.random((seeds, easier.size)) < np.clip(score + luck + easier, 0, 1)).astype(float)


def rates(better: float, sweeps: int, seed: int = 0) -> list[float]:
    """Shares of sweeps that declared a winner, that declared the right one, and that told any two apart."""
    rng = np.random.default_rng(seed)
    told = np.array([sweep(better, rng) for _ in range(sweeps)])
    return told.mean(0).tolist()


def main() -> None:
    print("| configuration 0 is better by | a winner is declared | it is configuration 0 | one is called worse |")
    print("|---:|---:|---:|---:|")
    for points in (0, 2, 5, 10):
        print(
            f"| {points} points | " + " | ".join(f"{rate:.1%}" for rate in rates(points / 100, 200)) + " |", flush=True
        )


if __name__ == "__main__":
    main()
