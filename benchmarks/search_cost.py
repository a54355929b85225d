"""Measures what the search adds to Tune's own time: milliseconds of the driver for each result.

    python benchmarks/search_cost.py                              # 1,000 trials, 32 at once
    python benchmarks/search_cost.py --trials 64 --processes      # trials are processes, as Ray has them

Two searches of trials that cost nothing run one after the other. *Tune*: random search, no scheduler, no callbacks;
each trial ends after half of the rounds. *Espalier*: a sweep as a user starts it at a terminal, with TPE and its
database, promotions, the recorder, MLflow's queue and database, and the snapshots. In both a trial is a process that
answers at once, so that the driver is what they wait for, and saves a checkpoint after each round.

The driver is one process; its CPU time is that of all of its threads, also those of Ray and of MLflow. `parts` are the
CPU time and the clock's time inside the calls of each part, without those of other parts that it calls: a part with
much more of the latter waits for the disk, or for the cores, which the trials share. The searches differ in more than
these calls: trials that pause are saved and restored, and Tune is asked for its state as often as Espalier wants it.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ray
from optuna.distributions import CategoricalDistribution, FloatDistribution
from ray import tune
from ray.tune.execution.tune_controller import TuneController
from rich.live import Live

from sweeps.cli.main import main as run_sweep
from benchmarks.in_process import InProcessActors, run_trials_here
from search_spaces.space import Space
from sweeps.persistence.snapshot import Snapshot
from sweeps.resources.environment import quieten
from sweeps.resources.ray_cluster import cluster
from sweeps.results.trial_params import TrialParams
from sweeps.spec.sweep import Sweep
from sweeps.tracking.mlflow_callback import MLflowTracking
from sweeps.tracking.mlflow_store import Store
from sweeps.tuning.finalists import TrialPlaces, trainable
from sweeps.tuning.optuna_searcher import OptunaSearcher
from sweeps.tuning.progress import Progress
from sweeps.tuning.promotion import PromotingASHA
from sweeps.tuning.recorder import Recorder
from sweeps.tuning.stopping import SweepStopper
from trainables.core import Evaluation, LearnerConfig, Pair, RoundResult
from trainables.runtime.host_client import FreeSeatsCallback
from trainables.runtime.trial import Trial
from trainables.tasks.arena.task import ArenaTask

QUESTIONS = 250  # whose scores each result has, as those of a sweep do
TASK = ArenaTask(train_size=5, search_size=QUESTIONS, test_size=20)
TRIALS = "trials"  # those in the driver's process, which are no part of the driver
HOOKS = [name for name in vars(tune.Callback) if name.startswith("on_") or name == "get_state"]
PARTS = {
    "searcher": (OptunaSearcher, ["suggest", "on_trial_result", "on_trial_complete", "save"]),
    "scheduler": (PromotingASHA, ["on_trial_add", "on_trial_result", "choose_trial_to_run", "may_start"]),
    "stopper": (SweepStopper, ["__call__", *HOOKS]),
    "recorder": (Recorder, HOOKS),
    "tracking": (MLflowTracking, HOOKS),
    "tracking, its thread": (Store, ["send"]),
    "progress": (Progress, HOOKS),
    "progress, its thread": (Live, ["refresh"]),
    "seats": (FreeSeatsCallback, HOOKS),
    "snapshot": (Snapshot, HOOKS),
    "Tune's own state": (TuneController, ["save_to_dir"]),
    TRIALS: (InProcessActors, ["call"]),
}


class Curve:
    """A learner that trains nothing. Its score rises with each round towards that of its configuration."""

    def __init__(self, config: CurveConfig) -> None:
        off = (math.log10(config.learning_rate) + 3.5) ** 2 + (config.lora_dropout - 0.05) ** 2
        self._rounds, self._best = 0, (0.8 if config.r >= 8 else 0.7) / (1 + off)
        self._luck = random.Random(repr(config))

    def round(self) -> RoundResult:
        self._rounds += 1
        return RoundResult(1.0 / self._rounds, 1)

    def evaluate(self, split: str = "search") -> Evaluation:
        likely = self._best * (1 - 0.5**self._rounds)
        items = [float(self._luck.random() < likely) for _ in range(QUESTIONS)]
        return Evaluation(sum(items) / QUESTIONS, items)

    def state(self) -> bytes:
        return bytes([self._rounds % 256])

    def load(self, state: bytes) -> None:
        self._rounds = state[0]

    def save(self, folder: str) -> None:
        Path(folder, "adapter.bin").write_bytes(self.state())

    def close(self) -> None: ...


@dataclass(frozen=True)
class CurveConfig(LearnerConfig):
    name: ClassVar[str] = "curve"
    needs_base: ClassVar[bool] = False
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    lora_dropout: float = 0.0
    r: int = 8
    lora_alpha: int = 16
    warmup: float = 0.1

    def build(self, base: Any, task: Any, seed: int) -> Curve:
        return Curve(self)


SPACE = Space(
    {
        "learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
        "weight_decay": FloatDistribution(0.0, 0.1),
        "lora_dropout": FloatDistribution(0.0, 0.2),
        "r": CategoricalDistribution((4, 8, 16, 32)),
        "lora_alpha": CategoricalDistribution((8, 16, 32)),
        "warmup": FloatDistribution(0.0, 0.3),
    }
)


class Meter:
    """Sums the seconds inside calls of parts, by part, on the CPU and by the clock, without those of other parts that
    they call. Each thread has its own CPU time."""

    def __init__(self) -> None:
        self.cpu, self.clock, self.calls = Counter[str](), Counter[str](), Counter[str]()
        self._open = threading.local()

    def watch(self, part: str, owner: type, names: list[str]) -> None:
        """Measure these methods of a class from now on, those that it has."""
        for name in names:
            if name in vars(owner):
                setattr(owner, name, self._measured(part, vars(owner)[name]))

    def _measured(self, part: str, method: Any) -> Any:
        @functools.wraps(method)
        def call(*args: Any, **named: Any) -> Any:
            inner = self._open.__dict__.setdefault("inner", [])  # of each open call: the seconds of the calls in it
            inner.append([0.0, 0.0])
            cpu, clock = time.thread_time(), time.perf_counter()
            try:
                return method(*args, **named)
            finally:
                cpu, clock = time.thread_time() - cpu, time.perf_counter() - clock
                inner_cpu, inner_clock = inner.pop()
                self.cpu[part] += cpu - inner_cpu
                self.clock[part] += clock - inner_clock
                self.calls[part] += 1
                if inner:
                    inner[-1][0] += cpu
                    inner[-1][1] += clock

        return call


def measure_run(meter: Meter) -> dict[str, Any]:
    """Measure `tune.run` from now on. Return a dictionary that is filled when it ends."""
    found: dict[str, Any] = {}
    run = tune.run
    for part, (owner, names) in PARTS.items():
        meter.watch(part, owner, names)

    def count(method: Any) -> Any:
        def counted(*args: Any, **named: Any) -> Any:
            found["results"] = found.get("results", 0) + 1
            return method(*args, **named)

        return counted

    TuneController._process_trial_result = count(TuneController._process_trial_result)  # type: ignore[method-assign]

    @functools.wraps(run)
    def measured(*args: Any, **named: Any) -> Any:
        cpu, clock = time.process_time(), time.perf_counter()
        ended = run(*args, **named)
        found["cpu"], found["clock"] = time.process_time() - cpu, time.perf_counter() - clock
        found["parts"] = {part: (meter.cpu[part], meter.clock[part], meter.calls[part]) for part in meter.calls}
        return ended

    tune.run = measured
    return found


class Terminal(io.StringIO):
    """A terminal that nobody looks at, so that progress is drawn as it is for a user."""

    def isatty(self) -> bool:
        return True


def sweep_of(trials: int, at_once: int, rounds: int) -> Sweep:
    return Sweep(
        "cost",
        (Pair(CurveConfig(), TASK),),
        SPACE,
        num_samples=trials,
        rounds=rounds,
        max_concurrent_trials=at_once,
        resources_per_trial={"cpu": 0.01},
        finalists=0,
    )


def espalier(sweep: Sweep) -> None:
    """Run a sweep in this process, in the present folder."""
    shown, sys.stdout = sys.stdout, Terminal()
    try:
        run_sweep(sweep, ["--no-report", "--allow", "small_split"])
    finally:
        sys.stdout = shown


def tune_alone(sweep: Sweep) -> None:
    """Let Tune run as many random trials of the sweep's learner, each for half of the rounds."""
    draw = random.Random(sweep.seed)

    def params(_: Any) -> TrialParams:
        fields = {"learning_rate": 10 ** draw.uniform(-5, -2), "lora_dropout": draw.uniform(0, 0.2)}
        return TrialParams("curve", fields)

    quieten()
    with cluster(None, verbose=False):
        tune.run(
            trainable(Trial, sweep, TrialPlaces({}, None, sweep.max_concurrent_trials)),
            config={"params": tune.sample_from(params)},
            storage_path=str(Path.cwd()),
            metric="score",
            mode="max",
            num_samples=sweep.num_samples,
            stop={"training_iteration": sweep.rounds // 2},
            max_concurrent_trials=sweep.max_concurrent_trials,
            reuse_actors=True,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
            verbose=0,
        )


def one(kind: str, given: argparse.Namespace) -> None:
    """Run one search in this process, and print what it took as a line of JSON."""
    if not given.processes:
        run_trials_here()
    found = measure_run(Meter())
    sweep = sweep_of(given.trials, given.at_once, given.rounds)
    espalier(sweep) if kind == "Espalier" else tune_alone(sweep)
    assert not ray.is_initialized()
    cpu, clock, _ = found["parts"].pop(TRIALS, (0.0, 0.0, 0))
    print(json.dumps(found | {"cpu": found["cpu"] - cpu, "clock": found["clock"] - clock}))


def measured(kind: str, given: argparse.Namespace) -> dict[str, Any]:
    """Run one search in a process of its own, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--trials", str(given.trials), "--at-once", str(given.at_once)]
        done = subprocess.run(
            [*command, "--rounds", str(given.rounds), "--one", kind, *(["--processes"] if given.processes else [])],
            cwd=folder,
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--trials", type=int, default=1000)
    flags.add_argument("--at-once", type=int, default=32)
    flags.add_argument("--rounds", type=int, default=8, help="of the longest trials")
    flags.add_argument("--processes", action="store_true", help="a process for each trial, as Ray has it")
    flags.add_argument("--one", choices=("Tune", "Espalier"), help=argparse.SUPPRESS)
    given = flags.parse_args()
    if given.one:
        one(given.one, given)
        return
    runs = {kind: measured(kind, given) for kind in ("Tune", "Espalier")}
    print("| search | results | driver's CPU per result | clock per result |\n|---|---:|---:|---:|")
    for kind, run in runs.items():
        cpu, clock = (1000 * run[name] / run["results"] for name in ("cpu", "clock"))
        print(f"| {kind} | {run['results']:,} | {cpu:.1f} ms | {clock:.1f} ms |")
        run["each"] = cpu
    print(f"\ndifference: {runs['Espalier']['each'] - runs['Tune']['each']:+.1f} ms of CPU\n")
    print("| part | calls per result | CPU per result | clock per result |\n|---|---:|---:|---:|")
    results, total = runs["Espalier"]["results"], [0.0, 0.0]
    for part, (cpu, clock, calls) in sorted(runs["Espalier"]["parts"].items(), key=lambda item: -item[1][0]):
        total = [total[0] + cpu, total[1] + clock]
        print(f"| {part} | {calls / results:.1f} | {1000 * cpu / results:.2f} ms | {1000 * clock / results:.2f} ms |")
    print(f"| all | | {1000 * total[0] / results:.2f} ms | {1000 * total[1] / results:.2f} ms |")


if __name__ == "__main__":
    main()
