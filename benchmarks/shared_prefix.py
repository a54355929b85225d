"""Evaluating prompts with a system turn: its tokens read once for all rows of a batch, against once for every row.

    python benchmarks/shared_prefix.py      # SmolLM2 and 60 questions of the arena: three minutes on one core
    python benchmarks/shared_prefix.py --questions 250

The table has the CPU seconds of an evaluation by the arena's default learners after three optimizer steps, the faster
of two runs, taken in turns. `prompts`: the share of reading the prompts where every row reads its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import torch

from trainables.core import LanguageLearner
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.loading import Base, load
from trainables.packed import decoding
from trainables.packed.solo import Solo
from trainables.tasks.arena.task import ArenaTask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="builtin:smollm2")
    parser.add_argument("--questions", type=int, default=60)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    base, task = load(flags.base), ArenaTask(search_size=flags.questions)
    print("| learner | prompts | every row, s | once a batch, s | ratio | completions that differ |")
    print("|---|---:|---:|---:|---:|---:|")
    for config in (LoraConfig, SoftPromptConfig, HybridConfig):
        learner = config(steps_per_round=3).build(base, task, 0)
        share, whole, shared, differ = compared(base, learner)
        row = f"| {config.name} | {share:.0%} | {whole:.2f} | {shared:.2f} | {whole / shared:.2f} x | {differ} |"
        print(row, flush=True)


def compared(base: Base, learner: LanguageLearner) -> tuple[float, float, float, int]:
    """Return the share of reading prompts, the seconds without and with sharing, and how many completions differ."""
    solo = Solo(base, learner, 0)
    solo.round()
    runs: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    said: dict[bool, Any] = {}
    for sharing in (True, False) * 2:
        said[sharing], *seconds = timed(solo, sharing)
        runs[sharing].append((seconds[0], seconds[1]))
    solo.close()
    (whole, reading), (shared, _) = min(runs[False]), min(runs[True])
    return reading / whole, whole, shared, sum(a != b for a, b in zip(said[False], said[True], strict=True))


def timed(solo: Solo, sharing: bool) -> tuple[Any, float, float]:
    """Return the completions of an evaluation, its CPU seconds, and those of reading prompts."""
    reading, prefill, prefix = [0.0], decoding._prefill, decoding.shared_prefix

    def measured(*request: Any) -> Any:
        start = time.process_time()
        found = prefill(*request)
        reading[0] += time.process_time() - start
        return found

    apart: Callable[..., Any] = lambda rows, virtual: None  # noqa: E731
    with (
        patch.object(decoding, "_prefill", measured),
        patch.object(decoding, "shared_prefix", prefix if sharing else apart),
    ):
        start = time.process_time()
        found = solo.evaluate()
        return found.completions, time.process_time() - start, reading[0]


if __name__ == "__main__":
    main()
