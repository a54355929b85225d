"""The value of each part of efe by itself: its loss's terms, features, LoRA on the base, memory and size head.

    python benchmarks/arc_efe.py                        # the tables of docs/results/arc.md; an hour of CPU
    python benchmarks/arc_efe.py --weight 0.03 0.1 0.3 1.0      # every term at each of these: about two hours more
    python benchmarks/arc_efe.py --tasks 100 --seed 1
    python benchmarks/arc_efe.py --only "memory, risk 0.1" "size head"      # these, and plain beside them

There are two sets of ARC-AGI-1 training tasks, which no sweep searches on: small ones that keep their size, and all
tasks on whose output sizes lenses disagree, because the size head decides nothing elsewhere. All variants of a set
have equal tasks, steps, seed and data order, so tasks are compared one by one: `gained` counts the tasks that a variant
solves and plain efe does not, `lost` the opposite; p is of McNemar's exact test. Hyperparameters are not searched.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
import tyro
from scipy.stats import binomtest

from benchmarks.arc_all import ALL
from sweeps.results.statistics import wilson
from trainables.core import Example
from trainables.learners.arc.canvas import canvas, hypotheses
from trainables.learners.arc.efe.learner import EfeConfig
from trainables.tasks.arc.data import hash_fraction
from trainables.tasks.arc.grids import parse_completion
from trainables.tasks.arc.task import ArcTask, puzzle

# Tasks recall at the start of a round: eight short rounds are seven recalls, of what was solved until then.
PLAIN = EfeConfig(memory_capacity=0, features=False, size_head=False, steps_per_round=8)
WITH_FEATURES = replace(PLAIN, features=True)
SIZES = replace(PLAIN, size_head=True)
SMALL = ArcTask(data="arc1", same_size=True, max_side=10)


@dataclass(frozen=True)
class VariantResult:
    """`solved`: keys; `sizes`: tasks whose outputs all have the right size; `entries`: in the memory after each round;
    `metrics`: of the last round and evaluation."""

    solved: frozenset[str]
    first: int
    sizes: int
    cpu: float
    entries: list[int]
    metrics: dict[str, float]


def variants(weights: Sequence[float]) -> dict[str, EfeConfig]:
    """Return the configurations by name, plain efe first."""
    terms = ("risk", "ambiguity", "step", "bidirectional", "reversibility")
    memory = replace(PLAIN, memory_capacity=256)
    found = {
        "plain": PLAIN,
        "features": WITH_FEATURES,
        "features, base_r 4": replace(WITH_FEATURES, base_r=4),
        "memory": memory,
        "memory, success_threshold 0.5": replace(memory, success_threshold=0.5),
    }
    for weight in weights:
        found |= {f"{name} {weight}": replace(PLAIN, **{name: weight}) for name in terms}
        everything = dict.fromkeys((*terms, "anchor", "alignment"), weight)
        found |= {
            f"features, alignment {weight}": replace(WITH_FEATURES, alignment=weight),
            f"memory, risk {weight}": replace(memory, risk=weight),
            f"memory, risk, anchor {weight}": replace(memory, risk=weight, anchor=weight),  # it acts through risk alone
            f"all {weight}": replace(WITH_FEATURES, **everything, memory_capacity=256),
        }
    return found


def run(config: EfeConfig, examples: Sequence[Example], rounds: int, seed: int) -> VariantResult:
    """Train and evaluate a variant. Runs in a process of its own."""
    import torch

    from trainables.models.loading import load

    torch.set_num_threads(1)
    start = time.process_time()
    learner = config.build(load("builtin:tiny"), ALL.with_search(examples), seed)
    entries = []
    for _ in range(rounds):
        trained = learner.round()
        entries.append(round(trained.metrics.get("memory_entries", 0)))
    evaluation = learner.evaluate()
    solved = frozenset(e.key for e, score in zip(examples, evaluation.items, strict=True) if score)
    first = round(evaluation.metrics["pass_at_1"] * len(examples))
    sizes = sum(map(right_size, examples, evaluation.completions))
    numbers = {key: value for key, value in (trained.flat() | evaluation.flat()).items() if isinstance(value, float)}
    return VariantResult(solved, first, sizes, time.process_time() - start, entries, numbers)


def right_size(example: Example, completion: str) -> bool:
    targets = [target for _, target in example.data.tests]
    attempts = parse_completion(completion, len(targets)) or ()
    return [tries[0].shape for tries in attempts] == [target.shape for target in targets]


def some(examples: Sequence[Example], number: int) -> list[Example]:
    return sorted(examples, key=lambda example: hash_fraction(f"efe {example.key}"))[:number]


def alike(examples: Sequence[Example], features: bool) -> str:
    """Return how many pairs of these tasks are similar enough for one to start from the other."""
    import torch

    from trainables.learners.arc import base_features
    from trainables.learners.arc.efe.agent import key_of
    from trainables.learners.arc.efe.batch import NetworkInput
    from trainables.models.loading import load

    seen = {example.key: puzzle(example) for example in examples}
    none = dict.fromkeys(seen, np.zeros(0, dtype=np.float32))
    read = base_features.features(load("builtin:tiny"), seen) if features else none
    keys = [key_of(NetworkInput(own, read[name])) for name in seen if (own := canvas(seen[name]))]
    cosines = [float(torch.cosine_similarity(one, other, dim=0)) for one, other in combinations(keys, 2)]
    return f"{sum(value > PLAIN.memory_similarity for value in cosines)} of {len(cosines)}"


def report(title: str, results: Iterable[tuple[str, VariantResult]], total: int) -> None:
    """Print a line per variant as soon as it is done; plain efe must come first."""
    print(f"\n{title}", flush=True)
    plain = frozenset[str]()
    for name, result in results:
        plain = result.solved if name == "plain" else plain
        low, high = wilson(len(result.solved), total)
        gained, lost = len(result.solved - plain), len(plain - result.solved)
        p = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
        solved = f"pass@2 {len(result.solved)} [{low:.1%}, {high:.1%}], pass@1 {result.first}, sizes {result.sizes}"
        print(f"{name}: {solved}, gained {gained}, lost {lost}, p {p:.2f}; {result.cpu:.0f} CPU s", flush=True)
        if "memory_writes" in result.metrics:
            found = {key: f"{value:g}" for key, value in result.metrics.items() if "memory" in key}
            print("   ", found, "entries at each recall", [0, *result.entries[:-1]], flush=True)


def main(
    tasks: int = 48,
    rounds: int = 8,
    weight: tuple[float, ...] = (0.1,),
    seed: int = 0,
    processes: int = os.cpu_count() or 1,
    only: tuple[str, ...] = (),
) -> None:
    """Train all variants on both sets and print a line for each.

    Args:
        tasks: how many small tasks; of the tasks on whose sizes lenses disagree all are taken.
        rounds: rounds of eight AdamW steps.
        weight: the weight of each term; several give a row each.
        seed: the random seed of networks and of the order of data.
        processes: variants that are trained side by side, with one thread each.
        only: variants to train beside plain efe, by their printed names; all by default.
    """
    small = some(SMALL.train(), tasks)
    unsure = [example for example in ALL.train() if len(hypotheses(puzzle(example))) > 1]
    every = variants(weight)
    sets = {
        f"{len(small)} tasks of one size": (small, every),
        f"{len(unsure)} tasks on whose output sizes lenses disagree": (unsure, {"plain": PLAIN, "size head": SIZES}),
    }
    if unknown := set(only) - {*every, "size head"}:
        sys.exit(f"no variant is called {sorted(unknown)}; there are {[*every, 'size head']}")
    print(f"{rounds} rounds of {PLAIN.steps_per_round} steps, seed {seed}")
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for title, (examples, own) in sets.items():
            chosen = {name: config for name, config in own.items() if name == "plain" or not only or name in only}
            job = partial(run, examples=examples, rounds=rounds, seed=seed)
            report(title, zip(chosen, pool.map(job, chosen.values()), strict=True), len(examples))
    pairs = f"without features {alike(small, features=False)}, with features {alike(small, features=True)}"
    print(f"\npairs of the first set that are similar enough to be recalled: {pairs}")


if __name__ == "__main__":
    tyro.cli(main)
