"""A trial's training steps against TRL's trainers: the same base, rows, batches, LoRA and optimizer, one table.

    python benchmarks/trl_speed.py                              # builtin:tiny, one thread; a minute or two
    python benchmarks/trl_speed.py --threads 2
    python benchmarks/trl_speed.py --shape qwen2.5-0.5b --steps 2 --turns 4    # random weights of that shape

Supervised steps (TRL's SFTTrainer) and DPO steps (its DPOTrainer, reference log-probabilities computed before in both)
on arena questions, `short` as they are and `long` behind four solved ones each. Both take turns inside one process:
after so many steps of TRL's own training loop, our host takes as many on the same rows. The first turn warms up.
Tokens are the rows' own, without padding. TRL's activation checkpointing, on by default, is off. `loss` is the mean of
the last turn, to see that both learn the same. CPU time is what to read on a machine with other work.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from benchmarks.packing import BASE, Solved
from benchmarks.packing_device import opened
from trainables.core import Adapter, Example, Queries, Row
from trainables.learners.lm.preference_losses import dpo, mean, sums_of_pairs
from trainables.models.loading import Base
from trainables.models.peft_adapters import lora_config
from trainables.models.tokenization import encode_row
from trainables.optimizer import Optimizer
from trainables.packed.solo import Solo
from trainables.tasks.arena.task import ArenaTask, candidates

ADAPTER = Adapter(r=16, lora_alpha=32.0)
RATE, BETA = 3e-4, 0.1
TASKS = {"short": ArenaTask, "long": Solved}


class Given:
    """A `LanguageLearner` that reads rows in their order, `batch` at a time. It can be trained, but not evaluated."""

    adapter, optimizer, watch_updates, temperature = ADAPTER, Optimizer(RATE), False, 1.0

    def __init__(self, rows: Sequence[Row], batch: int, steps: int) -> None:
        self.rows, self.rows_per_batch, self.steps_per_round, self.place = rows, batch, steps, 0

    def prepare(self) -> Queries:
        yield from ()

    def prepare_step(self) -> Queries:
        yield from ()

    def next_rows(self) -> list[Row]:
        self.place += self.rows_per_batch
        return list(self.rows[self.place - self.rows_per_batch : self.place])

    def weight(self, rows: Sequence[Row]) -> float:
        return 1.0  # a step is one micro-batch


class Supervised(Given):
    def loss(self, logprobs: list[Tensor], rows: Sequence[Row]) -> Tensor:
        return -torch.cat(logprobs).mean()


class Preferring(Given):
    """DPO. `reference` holds the summed log-probability of each row under the untouched base."""

    reference: Tensor

    def loss(self, logprobs: list[Tensor], rows: Sequence[Row]) -> Tensor:
        reference = self.reference[self.place - len(rows) : self.place]
        return mean(dpo(*sums_of_pairs(logprobs), reference[0::2], reference[1::2], BETA))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default=BASE, help=f"{BASE}, or qwen2.5-0.5b with random weights")
    parser.add_argument("--rows", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8, help="rows in a step: questions of SFT, pairs of DPO times two")
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps in a turn")
    parser.add_argument("--turns", type=int, default=7, help="turns that are measured, of each")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    base = opened(flags.shape)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {flags.threads} thread(s)"
    print(f"{flags.shape} on {device}; {flags.batch} rows a step, {flags.turns} turns of {flags.steps} steps: medians")
    print("| steps | rows | tokens a row | TRL, tokens/s | ours, tokens/s | ours / TRL | by CPU time | loss, both |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for kind in ("SFT", "DPO"):
        for length in flags.rows:
            report(base, kind, length, flags)


def report(base: Base, kind: str, length: str, flags: Any) -> None:
    count = flags.batch * flags.steps * (flags.turns + 1)
    examples = TASKS[length](train_size=count if kind == "SFT" else count // 2).train()
    shown = examples if kind == "SFT" else [row for e in examples for row in (e, replace(e, answer=wrong(e)))]
    rows = [encode_row(base.tokenizer, example) for example in shown]
    learner: Any = (Supervised if kind == "SFT" else Preferring)(rows, flags.batch, flags.steps)
    solo = Solo(base, learner, seed=0)
    if kind == "DPO":
        learner.reference = torch.stack([logprobs.sum() for logprobs in solo.host.logprobs(rows)])
    with tempfile.TemporaryDirectory() as scratch:
        trainer = theirs(base, kind, examples, rows, scratch, flags)
        turns, losses = take_turns(trainer, solo, flags)
    solo.close()
    size = flags.batch * flags.steps
    tokens = [sum(len(row.tokens) for row in rows[first : first + size]) for first in range(size, count, size)]
    speeds = [statistics.median(n / turn[who][0] for n, turn in zip(tokens, turns, strict=True)) for who in (0, 1)]
    wall, cpu = ([there[clock] / here[clock] for there, here in turns] for clock in (0, 1))
    print(
        f"| {kind} | {length} | {sum(tokens) / len(tokens) / size:.0f} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | "
        + " | ".join(f"{statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for r in (wall, cpu))
        + f" | {losses[0]:.4f}, {losses[1]:.4f} |",
        flush=True,
    )


def wrong(example: Example) -> str:
    """Return another answer that the question names, or the next number."""
    others = [c for c in candidates(example) if c != example.answer]
    return others[0] if others else str((int(example.answer) + 1) % 100)


def theirs(base: Base, kind: str, examples: Sequence[Example], rows: Sequence[Row], scratch: str, flags: Any) -> Any:
    """Return TRL's trainer on a copy of the base. Raise SystemExit if it does not read the same tokens."""
    from datasets import Dataset, disable_progress_bars
    from transformers.trainer_callback import PrinterCallback
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    disable_progress_bars()
    shared: dict[str, Any] = {
        "output_dir": scratch, "use_cpu": base.device.type == "cpu", "bf16": False, "report_to": "none",
        "disable_tqdm": True, "activation_checkpointing": False, "save_strategy": "no", "logging_steps": flags.steps,
        "learning_rate": RATE, "lr_scheduler_type": "constant", "max_grad_norm": 1.0, "max_length": None,
        "max_steps": flags.steps * (flags.turns + 1), "train_sampling_strategy": "sequential",
    }  # fmt: skip
    model, tokenizer = copy.deepcopy((base.model, base.tokenizer))
    given: dict[str, Any] = {"model": model, "processing_class": tokenizer, "peft_config": lora_config(base, ADAPTER)}
    asked = [[{"role": "user", "content": example.prompt}] for example in examples]
    prompts = base.tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    answers, others = [e.answer for e in examples], [wrong(e) for e in examples]
    if kind == "SFT":
        data = Dataset.from_dict({"prompt": prompts, "completion": answers})
        rows_only = SFTConfig(**shared, per_device_train_batch_size=flags.batch)
        trainer: Any = SFTTrainer(args=rows_only, train_dataset=data, **given)
        read = [row["input_ids"] for row in trainer.train_dataset]
    else:
        data = Dataset.from_dict({"prompt": prompts, "chosen": answers, "rejected": others})
        pairs = {"per_device_train_batch_size": flags.batch // 2, "precompute_ref_log_probs": True, "beta": BETA}
        trainer = DPOTrainer(args=DPOConfig(**shared, **pairs), train_dataset=data, **given)
        read = [row["prompt_ids"] + row[ids] for row in trainer.train_dataset for ids in ("chosen_ids", "rejected_ids")]
    if read != [list(row.tokens) for row in rows]:
        raise SystemExit(f"TRL reads other tokens than our host from the same {kind} questions; nothing to compare")
    trainer.remove_callback(PrinterCallback)
    return trainer


def clocks() -> tuple[float, float]:
    """Return the seconds of the wall clock and of this process's CPU time."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def take_turns(trainer: Any, solo: Solo, flags: Any) -> tuple[list[Any], tuple[float, float]]:
    """Return the seconds of each turn but the first, (TRL's, ours) by clock, and both mean losses of the last turn.

    A callback of TRL's trainer runs our turns.
    """
    from transformers import TrainerCallback

    marks: list[tuple[float, float]] = []  # before and after each of our turns
    own: list[float] = []

    class Turns(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % flags.steps == 0:
                marks.append(clocks())
                own.append(solo.round().loss)
                marks.append(clocks())

    trainer.add_callback(Turns())
    trainer.train()
    spans = [tuple(b - a for a, b in zip(start, end, strict=True)) for start, end in pairwise(marks)]
    of_steps = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return list(zip(spans[1::2], spans[2::2], strict=True)), (of_steps[-1], own[-1])


if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"
    logging.disable(logging.WARNING)
    main()
