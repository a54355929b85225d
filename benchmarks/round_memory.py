"""How much memory does a round of GRPO take, beside a round of LoRA on the same rows?

    python benchmarks/round_memory.py                           # a minute: builtin:tiny on the arena
    python benchmarks/round_memory.py --base builtin:smollm2    # ten CPU minutes
    python benchmarks/round_memory.py --way grpo                # only one of the ways, beside LoRA

Every way takes its optimizer steps in a process of its own. GRPO samples its completions; LoRA is then given the same
prompts and completions as answers, in the same micro-batches. The table has the most memory that the process held
during the round, beyond what it held with the base loaded and the trial opened; the most in all; and ratios to LoRA's.
Needs Linux, which counts the memory.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import torch

from trainables.core import Row
from trainables.learners.lm.grpo import GrpoConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import load
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.tasks.arena.task import ArenaTask

WAYS: dict[str, dict[str, Any]] = {
    "lora": {},
    "grpo": {},
    "grpo, beta 0.04": {"beta": 0.04},
    "grpo, two iterations": {"num_iterations": 2},
}
KIB = 2**10  # in a MiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="builtin:tiny")
    parser.add_argument("--generations", type=int, default=1, help="of 64 completions, in the round")
    parser.add_argument("--way", nargs="+", choices=[*WAYS][1:], default=[*WAYS][1:], help="beside lora")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        given = json.load(sys.stdin) if flags.one == "lora" else None
        print(json.dumps(measured(flags.one, flags.base, flags.generations, given)))
        return
    command = [sys.executable, __file__, "--base", flags.base, "--generations", str(flags.generations), "--one"]
    print("| way | the round's, MiB | to LoRA | in all, MiB | to LoRA |\n|---|---:|---:|---:|---:|")
    rows: list[Any] | None = None
    first: tuple[float, float] | None = None
    for way in ("grpo", "lora", *flags.way):  # the first run is for LoRA's rows
        done = subprocess.run([*command, way], input=json.dumps(rows), stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        if rows is None:
            rows = found["rows"]
            continue
        own, whole = found["round"], found["whole"]
        first = first or (own, whole)
        print(f"| {way} | {own:.0f} | {own / first[0]:.2f} | {whole:.0f} | {whole / first[1]:.2f} |", flush=True)


def measured(way: str, base_name: str, generations: int, given: Sequence[Any] | None) -> dict[str, Any]:
    """Return the memory of a round in MiB, and the rows of its micro-batches."""
    torch.set_num_threads(1)
    config = GrpoConfig(rows_per_round=generations * GrpoConfig().rows_of_generation, **WAYS[way])
    base, trained = load(base_name), list[Any]()
    learner: Any = config.build(base, ArenaTask(), 0)
    if given is not None:
        shown = LoraConfig(
            steps_per_round=int(config.steps_of_round()),
            r=config.r,
            per_device_train_batch_size=config.per_device_train_batch_size,
            gradient_accumulation_steps=config.gradient_accumulation_steps,
        )
        left = [[Row(tuple(tokens), tuple(labels)) for tokens, labels in rows] for rows in given]
        learner = shown.build(base, ArenaTask(), 0)
        learner.next_rows = lambda: left.pop(0)
    plain = learner.next_rows

    def recorded() -> list[Row]:
        rows = plain()
        trained.append([(row.tokens, row.labels) for row in rows])
        return rows

    learner.next_rows = recorded
    host = Host(base, Shape(1, lanes=config.rows_per_batch(), max_rank=config.r))
    host.open("t", learner)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
    host.round("t")
    whole = memory("VmHWM")
    return {"round": whole - before, "whole": whole, "rows": trained}


def memory(name: str) -> float:
    """Return a figure of this process in MiB: what it holds, or the most that it held."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return float(lines[name].split()[0]) / KIB


if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"
    logging.disable(logging.WARNING)
    main()
