"""Packed trials against plain Ray Tune + PEFT: the same configurations, side by side in one run, one table.

    python benchmarks/packing.py                             # 16 and 48 trials; about five minutes on two cores
    python benchmarks/packing.py --workload batched --seats 4 8
    python benchmarks/packing.py --plain 1 2 3 4 --seats 2 4 8 --rounds 10     # how many side by side; shorter rounds

Arena workload: 80 online episodes in five rounds, 30 questions after each. Batched: 40 steps of 4 rows of about 128
tokens in four rounds, each question behind solved ones. Every run is a fresh process with a Ray of its own. `further`
is seconds per trial without start-up, (time of the longer run - time of the shorter) / (trials more), and how many
trials a minute that makes. `on_gpu.py` compares them on one GPU, without Ray.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from trainables.core import Example, Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.tasks.arena.task import ArenaTask

ROOT = Path(__file__).resolve().parents[1]
BASE = "builtin:tiny"
SOLVED = 4  # examples before a question of the batched workload


@dataclass(frozen=True)
class Solved(ArenaTask):
    """The arena with solved examples before every question, which makes rows of about 128 tokens."""

    def train(self) -> tuple[Example, ...]:
        return self._after_others(super().train())

    def search(self) -> tuple[Example, ...]:
        return self._after_others(super().search())

    def _after_others(self, examples: Sequence[Example]) -> tuple[Example, ...]:
        shown = ArenaTask.train(self)
        return tuple(
            replace(e, prompt=" ".join([*(f"{s.prompt} {s.answer}." for s in shown[i : i + SOLVED]), e.prompt]))
            for i, e in enumerate(examples, start=1)
        )


@dataclass(frozen=True)
class Workload:
    """`steps` training steps in `rounds` rounds, with an evaluation on the search split of `task` after each."""

    task: ArenaTask
    fields: dict[str, Any]
    steps: int
    rounds: int


WORKLOADS = {
    "arena": Workload(ArenaTask(train_size=200, search_size=30), {"mode": "online"}, 80, 5),
    "batched": Workload(Solved(train_size=200, search_size=30), {"per_device_train_batch_size": 4}, 40, 4),
}


def pair_of(work: Workload, fields: Mapping[str, Any]) -> Pair:
    learner = LoraConfig(**work.fields, steps_per_round=work.steps // work.rounds, **fields)
    return Pair(learner, work.task, BASE)


def configurations(count: int) -> list[dict[str, Any]]:
    """Return learning rates and ranks as a sweep would try them, equal for all ways to run."""
    sizes = (4, 8, 16)
    return [{"learning_rate": 3e-4 * 1.1 ** (i % 24), "r": sizes[i % 3], "lora_alpha": 16.0} for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=list(WORKLOADS), default="arena")
    parser.add_argument("--trials", type=int, nargs=2, default=[16, 48], help="of the shorter and the longer run")
    parser.add_argument("--plain", type=int, nargs="*", default=[2], help="processes side by side")
    parser.add_argument("--seats", type=int, nargs="*", default=[4])
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="the same steps in so many rounds, with a search split after each")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # one measurement, in a process of its own
    flags = parser.parse_args()
    if flags.one:
        measure(**json.loads(flags.one))
        return
    rounds = flags.rounds or WORKLOADS[flags.workload].rounds
    if WORKLOADS[flags.workload].steps % rounds:
        parser.error(f"--rounds {rounds} does not divide the {WORKLOADS[flags.workload].steps} steps of a trial")
    ways = [("plain", n, 1) for n in flags.plain] + [("packed", n, flags.hosts) for n in flags.seats]
    print(
        f"{flags.workload} in {rounds} rounds, {os.cpu_count()} cores, {BASE}; plain: processes, packed: seats x hosts"
    )
    few, many = flags.trials
    print(
        f"| way | {few} trials, s | {many} trials, s | further, s | a minute | CPU s | peak MiB, {few} trials | score |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for way, width, hosts in ways:
        short, long = (run(flags.workload, rounds, way, width, hosts, count) for count in (few, many))
        name = f"{way} {width}" + (f" x {hosts}" if way == "packed" else "")
        further = (long["wall_s"] - short["wall_s"]) / (many - few)
        busy = (long["cpu_s"] - short["cpu_s"]) / (many - few)
        print(
            f"| {name} | {short['wall_s']:.1f} | {long['wall_s']:.1f} | {further:.2f} | {60 / further:.0f} | {busy:.2f}"
            f" | {short['peak_mib']:.0f} | {long['score']:.3f} |",
            flush=True,
        )


def run(workload: str, rounds: int, way: str, width: int, hosts: int, count: int) -> dict[str, float]:
    """Measure one run in a process of its own: seconds, CPU seconds, and peak memory of it and its children."""
    given = {"workload": workload, "rounds": rounds, "way": way, "width": width, "hosts": hosts, "count": count}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, __file__, "--one", json.dumps(given)], stdout=subprocess.PIPE, text=True, env=environment
    )
    watch = Watch(child.pid)
    out, _ = child.communicate()
    watch.over.set()
    if child.returncode:
        raise SystemExit(f"{way} {width} failed; its own output is above")
    wall = time.perf_counter() - start
    said = json.loads(out.splitlines()[-1])
    return {"wall_s": wall, "cpu_s": sum(watch.cpu.values()), "peak_mib": watch.peak, **said}


class Watch:
    """Samples the proportional memory and the CPU seconds of a process and of all that it starts."""

    def __init__(self, pid: int) -> None:
        import psutil

        self.over, self.peak, self.cpu = threading.Event(), 0.0, dict[int, float]()
        threading.Thread(target=self._look, args=(psutil.Process(pid),), daemon=True).start()

    def _look(self, root: Any) -> None:
        import psutil

        while not self.over.wait(0.5):
            total = 0.0
            try:
                for process in (root, *root.children(recursive=True)):
                    total += process.memory_full_info().pss / 2**20
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
            except psutil.Error:
                continue
            self.peak = max(self.peak, total)


def measure(workload: str, rounds: int, way: str, width: int, hosts: int, count: int) -> None:
    import ray
    from ray import tune

    from sweeps.resources.environment import quieten, silence_ray
    from sweeps.resources.ray_cluster import seat_resources
    from sweeps.results.trial_params import TrialParams

    quieten()
    silence_ray(False)
    ray.init(address="local", include_dashboard=False, object_store_memory=200_000_000, log_to_driver=False,
             configure_logging=False)  # fmt: skip
    work = replace(WORKLOADS[workload], rounds=rounds)

    def resolve(params: TrialParams) -> Pair:
        return pair_of(work, params.fields)

    if way == "plain":
        from benchmarks.plain_trial import PlainTrial

        trainable, trials_at_once = tune.with_parameters(PlainTrial, resolve=resolve), width
        asked: dict[str, float] = {"cpu": min(1.0, (os.cpu_count() or 1) / width)}  # else no more than cores would run
    else:
        from trainables.packed.specs import Shape
        from trainables.runtime.host_actor import start_hosts
        from trainables.runtime.trial import Trial

        rows = max(pair_of(work, fields).learner.rows_per_batch() for fields in configurations(3))
        shape = Shape(width, lanes=min(32, width * rows), max_rank=16, max_prompt=0)
        actors = start_hosts(BASE, shape, hosts, max(1, (os.cpu_count() or 1) // hosts))
        trainable = tune.with_parameters(Trial, resolve=resolve, hosts={BASE: actors})
        asked, trials_at_once = seat_resources(), width * hosts
    with tempfile.TemporaryDirectory() as scratch:
        done = tune.run(
            trainable,
            config={"params": tune.grid_search([TrialParams("lora", fields) for fields in configurations(count)])},
            stop={"training_iteration": rounds},
            resources_per_trial=asked,
            max_concurrent_trials=trials_at_once,
            reuse_actors=True,
            storage_path=scratch,
            verbose=0,
        )
    scores = [trial.last_result["score"] for trial in done.trials]
    ray.shutdown()
    print(json.dumps({"score": sum(scores) / len(scores)}))


if __name__ == "__main__":
    main()
