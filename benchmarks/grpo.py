"""How fast is GRPO on one machine: TRL's trainer, our host with one trial, and our host with several?

    python benchmarks/grpo.py                    # both cores, builtin:tiny on the arena
    python benchmarks/grpo.py --seats 4 8        # other numbers of trials on one base
    python benchmarks/grpo.py --hosts 2          # these trials in two hosts, with half of the threads each

Every way samples and trains the same completions a step (8 of each of 8 questions) with the same settings, a LoRA of
rank 4 and the same scores. Each runs in processes of its own, `--processes` side by side with a thread each, or one
with as many threads. Loading and the first step (of ours: the first round) are left out. The table has completions per
second of all processes and trials together, by the clock and by CPU time, which others on the machine disturb less, and
the mean reward of the last step. TRL's is of an earlier step, as ours has had a round more.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import torch

from trainables.learners.lm.grpo import GrpoConfig
from trainables.models.loading import Base, load
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.tasks.arena.task import ArenaTask

CONFIG = GrpoConfig()
STEP = CONFIG.rows_of_generation  # completions
TASK = ArenaTask()


@dataclass(frozen=True)
class Job:
    """One process. `seats`: trials on one base; 0: TRL's trainer."""

    seats: int
    threads: int
    steps: int


@dataclass(frozen=True)
class Speed:
    completions_per_second: float
    completions_per_cpu_second: float
    reward: float  # mean of the last step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, help="side by side, for TRL and for ours")
    parser.add_argument("--seats", type=int, nargs="+", default=[4, 8, 16], help="trials on one base")
    parser.add_argument("--hosts", type=int, default=1, help="that share the trials and the threads")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps of each trial that are measured")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        print(json.dumps(asdict(measured(Job(**json.loads(flags.one))))))
        return
    many, hosts, steps = flags.processes, flags.hosts, flags.steps
    ways = {
        f"TRL, {many} processes": [Job(0, 1, steps)] * many,
        "ours, one trial": [Job(1, many, steps)],
        f"ours, {many} processes": [Job(1, 1, steps)] * many,
    }
    where = "one base" if hosts == 1 else f"{hosts} hosts"
    ways |= {
        f"ours, {seats} trials on {where}": [Job(seats // hosts, max(1, many // hosts), steps)] * hosts
        for seats in flags.seats
    }
    print("| way | completions/s | to TRL | completions per CPU second | to TRL | reward at the end |")
    print("|---|---:|---:|---:|---:|---:|")
    first: tuple[float, float] | None = None
    for way, jobs in ways.items():
        speeds = side_by_side(jobs)
        total = sum(speed.completions_per_second for speed in speeds)
        cpu = sum(speed.completions_per_cpu_second for speed in speeds) / len(speeds)
        first = first or (total, cpu)
        reward = sum(speed.reward for speed in speeds) / len(speeds)
        told = f"{total:.1f} | {total / first[0]:.2f} | {cpu:.1f} | {cpu / first[1]:.2f} | {reward:.3f}"
        print(f"| {way} | {told} |", flush=True)


def side_by_side(jobs: list[Job]) -> list[Speed]:
    """Run each job in a process of its own, all at once."""
    commands = [[sys.executable, __file__, "--one", json.dumps(asdict(job))] for job in jobs]
    running = [subprocess.Popen(one, stdout=subprocess.PIPE, text=True) for one in commands]
    outputs = [one.communicate()[0] for one in running]
    if any(one.returncode for one in running):
        raise SystemExit("a process failed; see above")
    return [Speed(**json.loads(output.splitlines()[-1])) for output in outputs]


def measured(job: Job) -> Speed:
    torch.set_num_threads(job.threads)
    base = load("builtin:tiny")
    return ours(base, job) if job.seats else theirs(base, job)


def ours(base: Base, job: Job) -> Speed:
    host = Host(base, Shape(job.seats, lanes=min(128, job.seats * CONFIG.rows_per_batch()), max_rank=CONFIG.r))
    names = [f"t{seed}" for seed in range(job.seats)]
    for seed, name in enumerate(names):
        host.open(name, replace(CONFIG, steps_per_round=job.steps).build(base, TASK, seed), seed)
    host.run(dict.fromkeys(names, "round"))
    start = clocks()
    host.run(dict.fromkeys(names, "round"))
    learners: list[Any] = [host.trials[name].learner for name in names]
    rewards = [learner.figures[-1]["reward"] for learner in learners]
    return speed(job.seats * job.steps * STEP, start, clocks(), sum(rewards) / len(rewards))


def clocks() -> tuple[float, float]:
    """Return the seconds of the wall clock and of this process's CPU time."""
    return time.perf_counter(), time.process_time()


def speed(count: int, start: tuple[float, float], end: tuple[float, float], reward: float) -> Speed:
    return Speed(count / (end[0] - start[0]), count / (end[1] - start[1]), reward)


def theirs(base: Base, job: Job) -> Speed:
    from datasets import Dataset
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from trainables.models.peft_adapters import lora_config

    examples, marks = TASK.train(), list[tuple[float, float]]()
    asked = [[{"role": "user", "content": example.prompt}] for example in examples]
    prompts = base.tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)

    def score(completions: list[str], completion_ids: list[list[int]], place: list[int], **_: Any) -> list[float]:
        ended = (base.eos in ids for ids in completion_ids)
        texts = zip(completions, place, ended, strict=True)
        return [TASK.score(examples[i], text) if whole else 0.0 for text, i, whole in texts]

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            marks.append(clocks())

    with tempfile.TemporaryDirectory() as scratch:
        settings: dict[str, Any] = {
            "output_dir": scratch, "use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True,
            "save_strategy": "no", "logging_steps": 1, "learning_rate": CONFIG.learning_rate,
            "max_steps": job.steps + 1, "lr_scheduler_type": "constant", "gradient_checkpointing": False,
        }  # fmt: skip
        settings |= {
            name: getattr(CONFIG, name)
            for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations", "temperature")
        }
        trainer = GRPOTrainer(
            model=base.model.requires_grad_(True),
            reward_funcs=score,
            args=GRPOConfig(**settings, max_completion_length=TASK.max_new_tokens),
            train_dataset=Dataset.from_dict({"prompt": prompts, "place": [*range(len(prompts))]}),
            processing_class=base.tokenizer,
            peft_config=lora_config(base, CONFIG.adapter()),
            callbacks=[Clock()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    return speed(job.steps * STEP, marks[0], marks[-1], rewards[-1])


if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"
    logging.disable(logging.WARNING)
    main()
