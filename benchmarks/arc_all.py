"""How many of all 400 training and all 400 evaluation tasks of ARC-AGI-1 percell solves, next to copy and constant.

    python benchmarks/arc_all.py                                   # under an hour on two cores
    python benchmarks/arc_all.py --sets training --steps 32        # a quarter of that

Every task gets a fresh network, trained on its demonstrations alone. Tasks whose demonstrations change the grid's size
get no answer and count as unsolved: nothing is left out. Both attempts count (pass@2); intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import tyro

from sweeps.results.statistics import wilson
from trainables.core import Example
from trainables.learners.arc_answers import seed_of
from trainables.learners.percell import PercellConfig, answer
from trainables.tasks.arc import ArcTask, puzzle, trivial_completions

TASK = ArcTask(data="arc1", same_size=False, max_side=30)
KINDS = ("same_size", "other_size")


def solve(example: Example, config: PercellConfig, steps: int, seed: int) -> tuple[str, float]:
    """A submission for one task, and the CPU seconds that it took."""
    import torch

    from trainables.learners.percell_net import Solver

    torch.set_num_threads(1)
    start = time.process_time()
    solver = Solver(puzzle(example), config, seed_of(example.key, seed)) if example.kind == "same_size" else None
    if solver is not None:
        solver.train(steps)
    return answer(example, solver), time.process_time() - start


def main(
    config: PercellConfig = PercellConfig(),  # noqa: B008 (frozen)
    sets: tuple[Literal["training", "evaluation"], ...] = ("training", "evaluation"),
    steps: int = 64,
    seed: int = 0,
    processes: int = os.cpu_count() or 1,
) -> None:
    """`steps`: AdamW steps for each task. `processes`: tasks side by side, a thread each."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawned) as pool:
        for name in sets:
            examples = [*TASK.train(), *TASK.search()] if name == "training" else [*TASK.test()]
            examples.sort(key=lambda example: -example.difficulty)  # the largest grids first, so that none is last
            start = time.perf_counter()
            done = list(pool.map(partial(solve, config=config, steps=steps, seed=seed), examples))
            minutes = (time.perf_counter() - start) / 60
            said = [completion for completion, _ in done]
            report(name, examples, said, f"{minutes:.1f} min, {sum(cpu for _, cpu in done) / 60:.1f} min of CPU")


def report(name: str, examples: Sequence[Example], said: Sequence[str], cost: str) -> None:
    """Solved counts, of all and by kind; of trivial strategies; and which tasks."""
    scores = [TASK.score(example, completion) for example, completion in zip(examples, said, strict=True)]
    solved, total = int(sum(scores)), len(examples)
    low, high = wilson(solved, total)
    print(f"{name}: {solved}/{total} = {solved / total:.1%} [{low:.1%}, {high:.1%}]; {cost}")
    for kind in KINDS:
        own = [score for example, score in zip(examples, scores, strict=True) if example.kind == kind]
        print(f"  {kind}: {sum(own):.0f}/{len(own)}")
    first = sum(TASK.details(e, completion)["pass_at_1"] for e, completion in zip(examples, said, strict=True))
    print(f"  pass@1: {first:.0f}/{total}")
    for trivial in ("copy", "constant"):
        hits = sum(TASK.score(example, trivial_completions(puzzle(example))[trivial]) for example in examples)
        print(f"  {trivial}: {hits:.0f}/{total}")
    print("  solved:", *sorted(e.key for e, score in zip(examples, scores, strict=True) if score), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
