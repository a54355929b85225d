"""Decoding the rows of a seat with one copy of A and B for every eight rows, against one copy for every row.

    python benchmarks/decoding.py                      # two minutes on one core; on a GPU if there is one
    python benchmarks/decoding.py --base builtin:tiny

The table has the seconds of an evaluation per seat (CPU seconds on a CPU): four seats answer the arena's 30 questions,
with up to 8 tokens each; the fastest of three runs, taken in turns. `wide` is two layers of
Qwen2.5-0.5B's width with random weights.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from benchmarks.packing_device import QWEN
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import Base, load
from trainables.packed import hosted_trial
from trainables.packed.decoding import decode_prompts
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.tasks.arena.task import ArenaTask

SEATS = 4
SOME = ("q_proj", "v_proj")
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", choices=["builtin:tiny", "wide"], nargs="+", default=["builtin:tiny", "wide"])
    flags = parser.parse_args()
    torch.set_num_threads(1)
    tiny = load("builtin:tiny")
    print("| base | modules | rank | a copy a row, s | a copy for eight rows, s | ratio |")
    print("|---|---|---:|---:|---:|---:|")
    for base in [wide(tiny) if name == "wide" else tiny for name in flags.base]:
        for modules, rank in ((SOME, 16), (ALL, 32)):
            seconds = compared(base, modules, rank)
            row, block = (f"{one:.3f}" for one in seconds)
            names = "all linear" if modules is ALL else ", ".join(modules)
            print(f"| {base.name} | {names} | {rank} | {row} | {block} | {seconds[0] / seconds[1]:.2f} x |", flush=True)


def wide(tiny: Base) -> Base:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = Qwen2Config(**QWEN | {"num_hidden_layers": 2, "vocab_size": 4096}, tie_word_embeddings=True)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(device)
    return Base("wide", model.requires_grad_(False).eval(), tiny.tokenizer)


def compared(base: Base, modules: tuple[str, ...], rank: int) -> tuple[float, float]:
    """Return the seconds per seat with one copy of A and B for every row, and with one for every block of rows."""
    host = Host(base, Shape(SEATS, lanes=SEATS, max_rank=rank, max_prompt=0))
    for index in range(SEATS):
        config = LoraConfig(r=rank, target_modules=modules)
        host.open(str(index), config.build(base, ArenaTask(search_size=30), 0), 0)
    timed(host, alone=True)  # warms
    pairs = [(timed(host, alone=True), timed(host, alone=False)) for _ in range(3)]
    host.shut()
    by_row, by_block = (min(seconds) / SEATS for seconds in zip(*pairs, strict=True))
    return by_row, by_block


def timed(host: Host, alone: bool) -> float:
    def by_row(*request: Any) -> Any:
        return [replace(prompt, block=1) for prompt in decode_prompts(*request)]

    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    # `patch` refuses a name that the module does not have; an assignment would measure the same code twice.
    with patch.object(hosted_trial, "decode_prompts", by_row if alone else decode_prompts):
        start = clock()
        host.run({str(index): "evaluate" for index in range(SEATS)})
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return clock() - start


if __name__ == "__main__":
    main()
