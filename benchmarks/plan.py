"""What `--plan` estimates for a round and its evaluation, against a round that is measured as a whole.

    python benchmarks/plan.py                                     # a minute on one core
    python benchmarks/plan.py --base builtin:smollm2 --learner lora   # six minutes on one core

CPU seconds of one thread on the arena's default configuration. `ratio` is estimate / real.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import torch

from sweeps.arena import SWEEP
from sweeps.tuning.probe import measure
from sweeps.tuning.probes import PROBES_S
from trainables.core import Pair
from trainables.runtime.open_learner import open_in_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="builtin:tiny")
    parser.add_argument("--learner", nargs="+", default=["lora", "soft_prompt", "hybrid", "full"])
    parser.add_argument(
        "--seconds", type=float, help="for the measurements of a learner (on builtin:tiny 0.5, as all of it takes one)"
    )
    flags = parser.parse_args()
    torch.set_num_threads(1)
    print("| learner | measured | estimate, s | real, s | ratio |\n|---|---|---:|---:|---:|")
    for pair in SWEEP.pairs + SWEEP.optional:
        if pair.learner.name in flags.learner:
            own = Pair(pair.learner, pair.task, flags.base)
            seconds = (
                (0.5 if flags.base == "builtin:tiny" else PROBES_S / 3) if flags.seconds is None else flags.seconds
            )
            measured, estimate, real = compared(own, seconds)
            row = f"| {pair.learner.name} | {measured} | {estimate:.2f} | {real:.2f} | {estimate / real:.2f} |"
            print(row, flush=True)


def compared(pair: Pair, seconds: float) -> tuple[str, float, float]:
    """Return what was measured in so many seconds, the estimate, and the CPU seconds of a whole round."""
    with patch("time.perf_counter", time.process_time):  # other processes on a busy machine do not count
        costs = measure(pair, 0, seconds)
    learner = open_in_process(pair, 0)
    start = time.process_time()
    learner.round()
    learner.evaluate()
    real = time.process_time() - start
    learner.close()
    return costs["measured"], costs["round_s"], real


if __name__ == "__main__":
    main()
