"""Does a base in bfloat16 score as in float32, and how much faster is it on this CPU?

    python benchmarks/dtype.py                                # SmolLM2-135M-Instruct (`make smollm2`)
    python benchmarks/dtype.py --seeds 3 --questions 500      # narrower intervals, and seeds among them

Trains LoRA's defaults on the arena, on the base in each format with the same seeds, rows and steps. Both then answer
the same questions of the test split, as the untouched base did before. Differences are paired by question; with several
seeds their intervals include the variance between seeds. The formats take turns, so both meet the same other load.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from scipy.stats import t

from sweeps.results.statistics import Interval
from sweeps.results.uncertainty import combined_error, intervals, item_error, seed_errors
from trainables.core import Evaluation
from trainables.learners.lm.lora import LoraConfig
from trainables.models.cpu_dtype import FASTER, bfloat16_speedup
from trainables.models.loading import load
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.tasks.arena.task import ArenaTask

FLOAT32, BFLOAT16 = DTYPES = ("float32", "bfloat16")


@dataclass
class Measured:
    """One format's scores by seed and question, its last losses by seed, and its speeds by round and evaluation."""

    untouched: list[tuple[float, ...]] = field(default_factory=list)
    trained: list[tuple[float, ...]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # nats per label token
    tokens_per_second: list[float] = field(default_factory=list)
    questions_per_second: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)  # of a round: other processes change it little

    def ask(self, evaluate: Callable[[], Evaluation]) -> tuple[float, ...]:
        """Evaluate, keep the speed, and return the scores by question."""
        start = time.perf_counter()
        items = tuple(evaluate().items)
        self.questions_per_second.append(len(items) / (time.perf_counter() - start))
        return items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="builtin:smollm2", help="a base, without a dtype in its name")
    parser.add_argument("--steps", type=int, default=10, help="optimizer steps of a round, of 8 rows each")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of a training")
    parser.add_argument("--questions", type=int, default=250, help="questions of the test split")
    parser.add_argument("--seeds", type=int, default=1, help="trainings in each format")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(
        f"bfloat16 is {bfloat16_speedup():.2f} times as fast as float32 here, by its products;"
        f" sweeps choose bfloat16 from {FASTER:g} times on",
        flush=True,
    )
    task = ArenaTask(train_size=8 * given.steps * given.rounds, test_size=given.questions)
    found = measure(given.base, LoraConfig(steps_per_round=given.steps), task, given.rounds, given.seeds)
    report(found, given.questions, given.seeds)


def measure(base: str, config: LoraConfig, task: ArenaTask, rounds: int, seeds: int) -> dict[str, Measured]:
    """Ask the untouched base, train and ask again, in both formats by turns."""
    shape = Shape(1, config.rows_per_batch(), max_rank=config.r, max_prompt=0)
    hosts = {dtype: Host(load(f"{base}:{dtype}"), shape) for dtype in DTYPES}
    found = {dtype: Measured() for dtype in DTYPES}
    for seed in range(seeds):
        learners = {dtype: config.build(host.base, task, seed) for dtype, host in hosts.items()}
        for dtype, host in hosts.items():
            own, learner = found[dtype], learners[dtype]
            if not own.untouched:
                own.untouched.append(own.ask(partial(host.evaluate_untouched, learner, "test")))
            host.open("trial", learner, seed)
        for number in range(rounds):
            for dtype, host in hosts.items():
                start = time.process_time()
                trained = host.round("trial")
                found[dtype].cpu_seconds.append(time.process_time() - start)
                found[dtype].tokens_per_second.append(trained.metrics["tokens_per_second"])
                if number == rounds - 1:
                    found[dtype].losses.append(trained.loss)
                print(f"seed {seed}, round {number + 1}, {dtype}: loss {trained.loss:.4f}", flush=True)
        for dtype, host in hosts.items():
            found[dtype].trained.append(found[dtype].ask(partial(host.evaluate, "trial", "test")))
    return found


def report(found: dict[str, Measured], questions: int, seeds: int) -> None:
    """Print scores and speeds of both formats side by side."""
    print(f"\n{questions} questions, {seeds} seed{'s' * (seeds > 1)}")
    print("score       float32               bfloat16              bfloat16 - float32       scored otherwise")
    untouched = {dtype: np.array(own.untouched) for dtype, own in found.items()}
    trained = {dtype: np.array(own.trained) for dtype, own in found.items()}
    for name, scores, untrained in (("untouched", untouched, DTYPES), ("trained", trained, ())):
        each = intervals(scores, untrained=untrained)
        cells = [f"{100 * scores[dtype].mean():5.1f} % {_span(each[dtype])}" for dtype in DTYPES]
        difference, (low, high) = paired_difference(scores[BFLOAT16], scores[FLOAT32])
        otherwise = float((scores[FLOAT32] != scores[BFLOAT16]).mean())
        print(
            f"{name:10}  {cells[0]:20}  {cells[1]:20}  {100 * difference:+5.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
            f"{'':8}  {otherwise:.1%}"
        )
    print("\nspeed                float32  bfloat16  ratio")
    for name in ("tokens_per_second", "questions_per_second"):
        slow, fast = (statistics.median(getattr(found[dtype], name)) for dtype in DTYPES)
        print(f"{name:20} {slow:8.1f}  {fast:8.1f}  {fast / slow:5.2f}")
    slow, fast = (statistics.median(found[dtype].cpu_seconds) for dtype in DTYPES)
    print(f"{'CPU seconds a round':20} {slow:8.1f}  {fast:8.1f}  {slow / fast:5.2f}")
    slow, fast = (statistics.mean(found[dtype].losses) for dtype in DTYPES)
    print(f"loss of the last round: {slow:.4f} and {fast:.4f} nats per label token")


def paired_difference(first: np.ndarray, second: np.ndarray) -> tuple[float, Interval]:
    """Return the difference of two mean scores (S, N) and its 95 % interval, over other questions and other seeds."""
    arrays = {"first": first, "second": second}
    seeds = seed_errors(arrays)
    trained = [(scores, seeds[name]) for name, scores in arrays.items() if seeds[name].variance]
    error = combined_error(item_error(first.mean(0) - second.mean(0)), trained)
    difference = float(first.mean() - second.mean())
    reach = float(t.ppf(0.975, error.freedom)) * math.sqrt(error.variance)
    return difference, (difference - reach, difference + reach)


def _span(bounds: Interval) -> str:
    return f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"


if __name__ == "__main__":
    main()
