"""What each part of efe is worth: every term of its loss, the base's features and the memory, alone against none of it.

    python benchmarks/arc_efe.py                        # small same-size ARC-AGI-1 training tasks; half an hour of CPU
    python benchmarks/arc_efe.py --tasks 100 --seed 1
    python benchmarks/arc_efe.py --only "memory, risk 0.1" all      # these, and plain beside them

The same tasks, steps, seed and data order for every variant, so tasks are compared one by one: `gained` and `lost` say
how many a variant solves that plain efe does not, and the other way round; p is McNemar's, exact. Nothing is searched.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import tyro
from scipy.stats import binomtest

from sweeps.results.statistics import wilson
from trainables.learners.efe import EfeConfig
from trainables.tasks.arc import ArcTask
from trainables.tasks.arc_data import hash_fraction

# Tasks recall at the start of a round: eight short rounds are seven recalls, of what was solved until then.
PLAIN = EfeConfig(memory_capacity=0, features=False, steps_per_round=8)
WITH_FEATURES = replace(PLAIN, features=True)


@dataclass(frozen=True)
class Result:
    """`solved`: keys; `entries`: in the memory after each round; `metrics`: of the last round and evaluation."""

    solved: frozenset[str]
    first: int
    cpu: float
    entries: list[int]
    metrics: dict[str, float]


def variants(weight: float) -> dict[str, EfeConfig]:
    terms = ("risk", "ambiguity", "step", "bidirectional", "reversibility")
    alone = {f"{name} {weight}": replace(PLAIN, **{name: weight}) for name in terms}
    memory = replace(PLAIN, memory_capacity=256)
    return {
        "plain": PLAIN,
        **alone,
        "features": WITH_FEATURES,
        f"features, alignment {weight}": replace(WITH_FEATURES, alignment=weight),
        "memory": memory,
        "memory, success_threshold 0.5": replace(memory, success_threshold=0.5),
        f"memory, risk {weight}": replace(memory, risk=weight),
        f"memory, risk, anchor {weight}": replace(memory, risk=weight, anchor=weight),  # it acts through risk alone
        "all": replace(WITH_FEATURES, **dict.fromkeys((*terms, "anchor", "alignment"), weight), memory_capacity=256),
    }


def run(named: tuple[str, EfeConfig], task: ArcTask, tasks: int, rounds: int, seed: int) -> tuple[str, Result]:
    import torch

    from trainables.bases import load

    torch.set_num_threads(1)
    name, config = named
    seen = _Some(task, tasks)
    start = time.process_time()
    learner = config.build(load("builtin:tiny"), seen, seed)  # type: ignore[arg-type]
    entries = []
    for _ in range(rounds):
        metrics = learner.round()
        entries.append(round(metrics.get("memory_entries", 0)))
    metrics |= learner.evaluate()
    solved = frozenset(e.key for e, score in zip(seen.search(), metrics["items"], strict=True) if score)
    first = round(metrics["pass_at_1"] * len(seen.search()))
    numbers = {key: value for key, value in metrics.items() if isinstance(value, float)}
    return name, Result(solved, first, time.process_time() - start, entries, numbers)


class _Some:
    """Training tasks that a sweep does not search on, where the search split stands."""

    def __init__(self, task: ArcTask, number: int) -> None:
        self._task = task
        chosen = sorted(task.train(), key=lambda example: hash_fraction(f"efe {example.key}"))
        self._examples = chosen[:number]

    def search(self) -> Sequence:
        return self._examples

    def __getattr__(self, name: str):
        return getattr(self._task, name)


def main(
    tasks: int = 60,
    rounds: int = 8,
    weight: float = 0.1,
    seed: int = 0,
    processes: int = os.cpu_count() or 1,
    only: tuple[str, ...] = (),
) -> None:
    """`rounds`: of eight AdamW steps. `weight`: of each term. `processes`: variants side by side, a thread each.

    `only`: variants beside plain, as they are printed; left out: all.
    """
    task = ArcTask(data="arc1", same_size=True, max_side=10)
    work = variants(weight)
    if unknown := set(only) - set(work):
        sys.exit(f"no variant is called {sorted(unknown)}; there are {list(work)}")
    work = {name: config for name, config in work.items() if name == "plain" or not only or name in only}
    spawned = multiprocessing.get_context("spawn")
    total, plain = len(_Some(task, tasks).search()), frozenset[str]()
    print(f"{total} tasks, {rounds} rounds of {PLAIN.steps_per_round} steps, seed {seed}")
    with ProcessPoolExecutor(processes, mp_context=spawned) as pool:
        job = partial(run, task=task, tasks=tasks, rounds=rounds, seed=seed)
        for name, result in pool.map(job, work.items()):
            plain = result.solved if name == "plain" else plain  # it comes first
            low, high = wilson(len(result.solved), total)
            gained, lost = len(result.solved - plain), len(plain - result.solved)
            p = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
            solved = f"pass@2 {len(result.solved)} [{low:.1%}, {high:.1%}], pass@1 {result.first}"
            print(f"{name}: {solved}, gained {gained}, lost {lost}, p {p:.2f}; {result.cpu:.0f} CPU s", flush=True)
            if "memory_writes" in result.metrics:
                found = {key: f"{value:g}" for key, value in result.metrics.items() if "memory" in key}
                print("   ", found, "entries at each recall", [0, *result.entries[:-1]], flush=True)


if __name__ == "__main__":
    tyro.cli(main)
