"""Measures the cost of a result in Tune's controller and Espalier's driver, with several numbers of idle trials.

    python benchmarks/scaling.py                        # 4, 16 and 48 at once; five minutes on two cores
    python benchmarks/scaling.py --at-once 4 8 --rounds 10

Each trial is a process that reports at once, so all of them wait for the controller. Two sweeps of each size run one
after the other, with few and with many rounds; their difference is the cost of the results, without the start. CPU
seconds are those of the driver's process, which also records, shows progress and queues events for MLflow.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from optuna.distributions import FloatDistribution

from sweeps.cli.main import main as run_sweep
from search_spaces.space import Space
from sweeps.spec.sweep import Sweep
from trainables.core import Evaluation, LearnerConfig, Pair, RoundResult
from trainables.tasks.arena.task import ArenaTask

TASK = ArenaTask(train_size=5, search_size=20, test_size=20)


class NoOpLearner:
    """A learner that trains nothing and scores 20 items."""

    def __init__(self) -> None:
        self._rounds = 0

    def round(self) -> RoundResult:
        self._rounds += 1
        return RoundResult(1.0, 1)

    def evaluate(self, split: str = "search") -> Evaluation:
        return Evaluation(0.5, [0.0, 1.0] * 10)

    def state(self) -> bytes:
        return bytes([self._rounds % 256])

    def load(self, state: bytes) -> None:
        self._rounds = state[0]

    def save(self, folder: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class NoOpConfig(LearnerConfig):
    name: ClassVar[str] = "idle"
    needs_base: ClassVar[bool] = False
    x: float = 0.5

    def build(self, base: Any, task: Any, seed: int) -> NoOpLearner:
        return NoOpLearner()


def one(at_once: int, rounds: int) -> None:
    """Run a sweep in this process and print its seconds as a line of JSON."""
    space = Space({"x": FloatDistribution(0.0, 1.0)})
    sweep = Sweep("scaling", (Pair(NoOpConfig(), TASK),), space, num_samples=at_once, rounds=rounds)
    flags = ["--max-concurrent-trials", str(at_once), "--resources.cpu", "0.01", "--search", "random", "--no-report"]
    start = time.perf_counter()
    run_sweep(sweep, [*flags, "--grace-period", str(rounds), "--finalists", "0", "--allow", "small_split"])
    seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"seconds": seconds, "cpu": used.ru_utime + used.ru_stime}))


def measured(at_once: int, rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", str(at_once), str(rounds)]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        files = [path for path in Path(folder, "runs/scaling").rglob("*") if path.is_file()]
        events = Path(folder, "runs/scaling/mlflow/events.jsonl")
        return json.loads(done.stdout.splitlines()[-1]) | {
            "bytes": sum(path.stat().st_size for path in files),
            "events": len(events.read_text().splitlines()),
        }


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--at-once", type=int, nargs="+", default=[4, 16, 48])
    flags.add_argument("--rounds", type=int, default=20, help="of the longer sweep; the shorter has two")
    flags.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    given = flags.parse_args()
    if given.one:
        one(*given.one)
        return
    print(
        "| trials at once | results per second | driver's CPU per result | disk per result | MLflow events per result |"
    )
    print("|---:|---:|---:|---:|---:|")
    for at_once in given.at_once:
        few, many = measured(at_once, 2), measured(at_once, given.rounds)
        more = {name: (many[name] - few[name]) / (at_once * (given.rounds - 2)) for name in few}
        cells = [f"{1 / more['seconds']:.0f}", f"{1000 * more['cpu']:.1f} ms", f"{more['bytes'] / 1024:.1f} KiB"]
        print(f"| {at_once} | {' | '.join(cells)} | {more['events']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
