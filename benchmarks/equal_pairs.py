"""How often are two equal finalists told apart, in one look, by how much their seeds differ?

    python benchmarks/equal_pairs.py                 # a minute on two cores
    python benchmarks/equal_pairs.py --pairs 200

Each row has so many finalists, all equally good, with so many seeds and questions each; two of them are compared as a
verdict does it, without the correction for other pairs. A column is the standard deviation of a score from seed to
seed, in points. Cells are the share of pairs with p < 0.05: at most 5 % keeps the promise. Questions are easy or hard
for all alike (standard deviation 25 points).
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np

from sweeps.results.comparison import LEVEL, t_test
from sweeps.results.uncertainty import combined_error, item_error, seed_errors

ROWS = ((2, 2, 500), (2, 3, 500), (2, 3, 2000), (2, 5, 500), (5, 2, 500), (5, 3, 500), (5, 3, 2000), (5, 5, 500))
SPREADS = (0, 1, 2, 3, 5, 8)  # points
HARDNESS = 0.25  # standard deviation of a question's chance to be answered
BASE_SCORE = 0.5


def told_apart(finalists: int, seeds: int, questions: int, spread: float, pairs: int) -> float:
    """Return the share of simulated pairs that differ, where seeds do by `spread` points."""
    rng, found = np.random.default_rng(7), 0
    for _ in range(pairs):
        chance = BASE_SCORE + spread / 100 * rng.standard_normal((finalists, seeds, 1))
        chance = chance + rng.normal(0, HARDNESS, (1, 1, questions))
        answers = (rng.random(chance.shape) < np.clip(chance, 0.02, 0.98)).astype(float)
        errors = seed_errors({str(place): one for place, one in enumerate(answers)})
        items = item_error(answers[0].mean(0) - answers[1].mean(0))
        error = combined_error(items, [(answers[0], errors["0"]), (answers[1], errors["1"])])
        found += t_test(float(answers[0].mean() - answers[1].mean()), error) < LEVEL
    return found / pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1500, help="that are simulated for each cell")
    pairs = parser.parse_args().pairs
    print(f"| finalists | seeds | questions | {' | '.join(f'{one} points' for one in SPREADS)} |")
    print("|---:" * (3 + len(SPREADS)) + "|")
    with ProcessPoolExecutor() as pool:
        for row in ROWS:
            cells = [pool.submit(told_apart, *row, spread, pairs) for spread in SPREADS]
            shares = " | ".join(f"{one.result():.1%}" for one in cells)
            print(f"| {' | '.join(map(str, row))} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
