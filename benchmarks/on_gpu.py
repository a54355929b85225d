"""Seats on one base against plain trials, on one GPU in at most ten minutes, without Ray, MLflow or Optuna.

    python benchmarks/on_gpu.py                                       # Qwen2.5-0.5B's shape, random weights
    python benchmarks/on_gpu.py --minutes 5 sequential seats:16 processes:8     # only these, in this order
    python benchmarks/on_gpu.py --shape builtin:tiny sequential seats:4 processes:2    # also on a CPU
    python benchmarks/on_gpu.py profile:16                            # operators that take most of the time

It needs torch, transformers and peft. Each measurement is kept as it comes, in `measurements.json` and `table.md` of a
new folder. What does not fit into `--minutes` (counted after imports) is skipped or interrupted, and its row says so.

Steps, by default those that matter most first:

    sequential     plain trials, one after the other
    seats:N        N trials in one host
    processes:N    plain trials in N processes side by side, through NVIDIA's MPS where it can be started
    decoding:N     tokens a second of N seats that answer 30 questions each, up to 64 tokens an answer
    compiled[:N]   N seats, or plain trials, with torch.compile(mode="reduce-overhead"); compiling is not counted
    profile:N      operators of a round and an evaluation of N seats

A trial is 80 online episodes of the arena in five rounds, with 30 questions after each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import torch

from benchmarks.budgeted_steps import Results, Rows, Step, run_steps
from benchmarks.costs import peak_flops
from benchmarks.packing import BASE
from benchmarks.packing_device import Timing, arithmetic, compiled, decode, opened, packed, profile, sequential, timed
from benchmarks.side_by_side import mps, side_by_side
from trainables.models.loading import Base

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("sequential", "seats", "processes", "decoding", "compiled", "profile")
STEPS = (
    *("sequential", "seats:16", "seats:32", "processes:4", "processes:8", "processes:2", "processes:1"),
    *("decoding:1", "decoding:16", "decoding:32", "seats:8", "seats:64", "compiled:16", "compiled", "compiled:32"),
)  # fmt: skip
COLUMNS = {"operations_per_step": ".0f", "products_s": ".3g", "device_mib": ".0f", "tokens_per_second": ".0f"}


def main() -> int:
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", type=parsed, help="what to measure, in this order")
    parser.add_argument("--shape", choices=["qwen2.5-0.5b", BASE], default="qwen2.5-0.5b")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--trials", type=int, default=2, help="plain trials of a process, one after the other")
    parser.add_argument("--out", type=Path, default=ROOT / time.strftime("runs/on_gpu-%Y%m%d-%H%M%S"))
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that MPS and processes are ended, too
    base = opened(flags.shape)
    with mps() as (environment, about_mps):
        facts = machine(base) | {"mps": about_mps}
        print(json.dumps(facts), flush=True)
        bench = Bench(base, flags.shape, flags.trials, facts["tflops"] * 1e12, environment)
        steps = [bench.step(*one) for one in flags.steps or map(parsed, STEPS)]
        results = Results(flags.out, {"machine": facts, "command": sys.argv[1:]}, table)
        run_steps(steps, results, 60 * flags.minutes - (time.monotonic() - start))
    print(f"\n{results.table()}\n{flags.out}")
    return int(any(row["outcome"] == "failed" for row in results.rows))


def parsed(text: str) -> tuple[str, int]:
    """Return the kind and number of "seats:16"; the number is 0 where none is given."""
    kind, _, number = text.partition(":")
    count = int(number) if number.isdecimal() else 0
    without = text in ("sequential", "compiled")
    if not without and (kind not in KINDS or kind == "sequential" or count < 1):
        raise argparse.ArgumentTypeError(f"{text!r} is no step; steps are sequential, seats:16, processes:4 ...")
    return kind, count


def machine(base: Base) -> dict[str, Any]:
    """Return facts about the machine. `tflops`: of one large product, in TFLOP/s."""
    on_gpu = base.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} CPU threads",
        "device_memory_mib": torch.cuda.get_device_properties(0).total_memory // 2**20 if on_gpu else 0,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "peft")},
        "cuda": torch.version.cuda if on_gpu else None,
        "commit": commit(),
        "shape": base.name,
        "dtype": str(base.dtype).removeprefix("torch."),
        "tflops": peak_flops(base.device, base.dtype) / 1e12,
    }


def commit() -> str:
    """Return the checkout's commit, with `-dirty` if files differ from it; "unknown" without git or history."""
    call = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(call, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


@dataclass(frozen=True)
class Bench:
    """`trials`: per process. `flops`: of the device, in FLOP/s. `environment`: variables of processes side by side."""

    base: Base
    shape: str
    trials: int
    flops: float
    environment: Mapping[str, str]

    def step(self, kind: str, count: int) -> Step:
        name = {
            "sequential": "sequential",
            "seats": f"{count} seats",
            "processes": f"{count} processes" + (", MPS" if self.environment else ""),
            "decoding": f"{count} seats, decoding",
            "compiled": f"{count} seats, compiled" if count else "sequential, compiled",
            "profile": f"{count} seats, profile",
        }[kind]
        return Step(name, kind, lambda: self.measure(kind, count))

    def measure(self, kind: str, count: int) -> dict[str, Any]:
        if kind == "processes":
            timing = side_by_side(self.shape, count, self.trials, self.environment)
            return per_trial(timing, count * self.trials)
        if kind == "decoding":
            tokens, timing = decode(self.base, count)
            return {"tokens_per_second": tokens / timing.seconds, "device_mib": timing.device_mib}
        if kind == "profile":
            operators = profile(self.base, count)
            print("".join(f"\n{count} seats, {what}\n{text}" for what, text in operators.items()))
            return {"operators": operators}
        if kind == "compiled":
            with compiled(self.base):
                first = timed(lambda: self.train(count))
                return self.trained(count) | {"first_run_s": first.seconds}
        needs = arithmetic(self.base, count)  # warms, too
        operations = {"operations_per_step": needs.operations, "products_s": needs.flops / self.flops}
        return self.trained(count) | operations

    def train(self, count: int) -> int:
        """Train `count` seats, or plain trials (0). Return how often batches were halved."""
        return packed(self.base, count) if count else sequential(self.base, self.trials)

    def trained(self, count: int) -> dict[str, Any]:
        halvings: list[int] = []
        timing = timed(lambda: halvings.append(self.train(count)))
        return per_trial(timing, count or self.trials) | {"memory_halvings": halvings[0]}


def per_trial(timing: Timing, trials: int) -> dict[str, float]:
    return {"seconds_per_trial": timing.seconds / trials, "device_mib": timing.device_mib}


def table(rows: Rows) -> str:
    """Return a Markdown table. Ratios are trials a minute, divided by those of sequential trials and of the best number
    of processes so far; empty where there are none."""
    seconds = {row["step"]: row["seconds_per_trial"] for row in rows if "seconds_per_trial" in row}
    alone = seconds.get("sequential")
    best = min((value for name, value in seconds.items() if "processes" in name), default=None)
    head = ("step", "s a trial", "against sequential", "against best processes", "operations a step",
            "products alone, s a trial", "device MiB", "tokens a second", "note")  # fmt: skip
    lines = [head, ("---", *["---:"] * 7, "---")]
    for row in rows:
        own, note = row.get("seconds_per_trial"), row["note"].replace("|", "/")
        notes = [] if row["outcome"] == "measured" else [f"{row['outcome']}: {note}"]
        notes += [f"first run {row['first_run_s']:.0f} s"] if "first_run_s" in row else []
        notes += [f"batches halved {row['memory_halvings']} times"] if row.get("memory_halvings") else []
        ratios = (f"{other / own:.2f} x" if own and other else "" for other in (alone, best))
        cells = (format(row[key], form) if row.get(key) else "" for key, form in COLUMNS.items())
        lines.append((row["step"], f"{own:.3f}" if own else "", *ratios, *cells, "; ".join(notes)))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
