"""How much does a score depend on the random seed, for supervised training and for learning from rewards?

    python benchmarks/seeds.py                    # ten CPU minutes: LoRA and GRPO on the arena, builtin:tiny
    python benchmarks/seeds.py --learner grpo --seeds 4 --rounds 1

Each learner's default is trained with every seed, and asked the same questions of the test split. The first table has
the standard deviation of the score from seed to seed with its 95 % interval (chi-square), what chance in single answers
alone would give (the residual of seeds by questions), and the score's range. The last column asks whether verdicts
count that spread: the seeds are divided into two groups of three in every way, each pair of groups is compared as two
finalists are, and as they are of one configuration, at most 5 % may differ. A line then has the ratio of the learners'
standard deviations with its interval (F).
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
import torch
from scipy.stats import chi2, f

from sweeps.results.comparison import LEVEL, compare
from sweeps.results.records import clusters_of
from sweeps.results.uncertainty import residual_variance
from trainables.learners.lm.grpo import GrpoConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import load
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.tasks.arena.task import ArenaTask

LEARNERS = {"lora": LoraConfig(), "grpo": GrpoConfig()}
TOGETHER = 4  # trials that share the base
GROUP = 3  # seeds of a finalist


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learner", nargs="+", choices=LEARNERS, default=[*LEARNERS])
    parser.add_argument("--base", default="builtin:tiny")
    parser.add_argument("--seeds", type=int, default=8, help="trainings of each learner, at least 2")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--questions", type=int, default=500, help="of the test split")
    flags = parser.parse_args()
    if flags.seeds < 2:
        parser.error("--seeds must be at least 2")
    torch.set_num_threads(1)
    task = ArenaTask(test_size=flags.questions)
    print("| learner | seeds | score | by seed | standard deviation, points | of answers alone | told apart | CPU s |")
    print("|---|---:|---:|---|---:|---:|---:|---:|")
    found: dict[str, np.ndarray] = {}
    for name in flags.learner:
        start = time.process_time()
        found[name] = scores = trained(name, flags.base, task, flags.seeds, flags.rounds)
        print(f"| {row(name, scores, task)} | {time.process_time() - start:.0f} |", flush=True)
    if {"lora", "grpo"} <= {*found}:
        print("\n" + ratio_line(found["grpo"], found["lora"]))


def trained(name: str, base: str, task: ArenaTask, seeds: int, rounds: int) -> np.ndarray:
    """Return scores on the test split, (seeds, questions). Seeds are not those of a search, which has 0."""
    config = LEARNERS[name].for_rounds(rounds)
    shape = Shape(TOGETHER, lanes=min(128, TOGETHER * config.rows_per_batch()), max_rank=config.r)
    host, scores = Host(load(base), shape), []
    for first in range(1, seeds + 1, TOGETHER):
        own = [*range(first, min(first + TOGETHER, seeds + 1))]
        for seed in own:
            host.open(f"s{seed}", config.build(host.base, task, seed), seed)
        for _ in range(rounds):
            host.run({f"s{seed}": "round" for seed in own})
        answered = host.run({f"s{seed}": "evaluate" for seed in own}, "test")
        scores += [answered[f"s{seed}"].items for seed in own]
        for seed in own:
            host.close(f"s{seed}")
    host.shut()
    return np.array(scores)


def row(name: str, scores: np.ndarray, task: ArenaTask) -> str:
    means = scores.mean(1)
    low, high = deviation_interval(means)
    by_seed = ", ".join(f"{100 * one:.1f}" for one in means)
    noise = 100 * math.sqrt(residual_variance(scores) / scores.shape[1])
    apart = told_apart(scores, clusters_of([one.key for one in task.test()]))
    told = f"{100 * means.std(ddof=1):.1f} [{low:.1f}, {high:.1f}] | {noise:.1f} | {apart}"
    return f"{name} | {len(scores)} | {100 * means.mean():.1f} % | {by_seed} | {told}"


def deviation_interval(means: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a standard deviation, in points, for normal scores."""
    free = len(means) - 1
    squares = 1e4 * free * means.var(ddof=1)
    return math.sqrt(squares / chi2.ppf(0.975, free)), math.sqrt(squares / chi2.ppf(0.025, free))


def told_apart(scores: np.ndarray, clusters: list[str]) -> str:
    """Return how many pairs of disjoint groups of seeds a verdict tells apart, `3 of 280`; `-` for too few seeds."""
    seeds = {*range(len(scores))}
    pairs = [
        (one, other)
        for one in itertools.combinations(sorted(seeds), GROUP)
        for other in itertools.combinations(sorted(seeds - {*one}), GROUP)
        if one < other
    ]
    differ = sum(
        compare({"one": scores[[*one]], "other": scores[[*other]]}, clusters)[0].p < LEVEL for one, other in pairs
    )
    return f"{differ} of {len(pairs)}" if pairs else "-"


def ratio_line(rewarded: np.ndarray, shown: np.ndarray) -> str:
    one, other = rewarded.mean(1), shown.mean(1)
    if not other.std():
        return "scores of lora do not differ from seed to seed"
    ratio, free = one.var(ddof=1) / other.var(ddof=1), (len(one) - 1, len(other) - 1)
    low, high = (math.sqrt(ratio / f.ppf(place, *free)) for place in (0.975, 0.025))
    return f"standard deviation of grpo / of lora: {math.sqrt(ratio):.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"
    logging.disable(logging.WARNING)
    main()
