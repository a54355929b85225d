"""How many of the 112 small same-size ARC-AGI-1 training tasks percell solves, and at which cost.

    python benchmarks/arc_percell.py                          # about nine minutes on one thread
    python benchmarks/arc_percell.py --limit 30 --config.learning-rate 0.008

Every task gets a fresh network, trained on its demonstrations alone; no number depends on another task. Seconds are CPU
time of one thread, training and prediction together. Copy and constant are what a solver must beat.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import torch
import tyro

from sweeps.results.statistics import wilson
from trainables.learners.arc_answers import seed_of
from trainables.learners.percell import PercellConfig, answer
from trainables.learners.percell_net import Solver, parameter_count
from trainables.tasks.arc import ArcTask, puzzle, trivial_completions
from trainables.tasks.arc_data import hash_fraction


def main(
    config: PercellConfig = PercellConfig(),  # noqa: B008 (frozen)
    rounds: int = 4,
    seed: int = 0,
    limit: int | None = None,
    skip: int = 0,
    verbose: bool = False,
) -> None:
    """`rounds`: of `steps_per_round` steps; `limit` and `skip`: which of the tasks, in an order fixed by their ids."""
    torch.set_num_threads(1)
    task = ArcTask(data="arc1", same_size=True, max_side=10)
    examples = sorted([*task.train(), *task.search()], key=lambda example: hash_fraction(f"x{example.key}"))
    examples = examples[skip : None if limit is None else skip + limit]
    solved: list[dict[str, list[str]]] = [{"pass@1": [], "pass@2": []} for _ in range(rounds)]
    seconds = [0.0] * rounds
    for number, example in enumerate(examples, 1):
        start = time.process_time()
        solver = Solver(puzzle(example), config, seed_of(example.key, seed))
        spent_judging = 0.0
        for index in range(rounds):
            solver.train(config.steps_per_round)
            trained = time.process_time()
            completion = answer(example, solver)
            now = time.process_time()
            seconds[index] += now - start - spent_judging
            spent_judging += now - trained  # a run that stops at this round predicts once
            if task.score(example, completion):
                solved[index]["pass@2"].append(example.key)
            if task.details(example, completion)["pass_at_1"]:
                solved[index]["pass@1"].append(example.key)
        if verbose:
            print(number, example.key, "solved" if example.key in solved[-1]["pass@2"] else "", flush=True)
    total = len(examples)
    print(f"{config}\nseed {seed}, {parameter_count(config.hidden_size)} parameters per task")
    for index in range(rounds):
        parts = [f"{(index + 1) * config.steps_per_round} steps", f"{seconds[index] / total:.2f} CPU s per task"]
        for name, keys in solved[index].items():
            low, high = wilson(len(keys), total)
            parts.append(f"{name} {len(keys)}/{total} = {len(keys) / total:.1%} [{low:.1%}, {high:.1%}]")
        print("; ".join(parts))
    for name in ("copy", "constant"):
        hits = sum(task.score(example, trivial_completions(puzzle(example))[name]) for example in examples)
        print(f"{name}: {hits:.0f}/{total}")
    print("solved:", *sorted(solved[-1]["pass@2"]))


if __name__ == "__main__":
    tyro.cli(main)
