"""Which learning rate suits a base that nobody has tried? Rules, judged on a published grid of models and rates.

    python benchmarks/rates.py GRID.csv

The grid has the test loss of LoRA for each model, rate and rank (columns `model`, `learning_rate`, `r`, `test_nll`),
such as that of the tinker-cookbook on Tulu 3. A rule names a rate for the width of a base. What it costs is by how much
the loss at that rate lies above the model's best one; between rates it is interpolated on a log scale. Only models that
were tried at both neighbours of a rule's rate count for that rule. Ranks: the best one for each rate.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np

from search_spaces.models import rate_at_width
from trainables.learners.lm.lora import LoraConfig

# Hidden sizes, from the models' configurations; the first row whose text is in the model's name applies.
WIDTHS = {
    "DeepSeek-V3": 7168,
    "Kimi-K2": 7168,
    "Llama-3.1-70B": 8192,
    "Llama-3.3-70B": 8192,
    "Llama-3.1-8B": 4096,
    "Llama-3.2-1B": 2048,
    "Llama-3.2-3B": 3072,
    "Qwen3-235B": 4096,
    "Qwen3-VL-235B": 4096,
    "Qwen3-30B": 2048,
    "Qwen3-VL-30B": 2048,
    "Qwen3-32B": 5120,
    "Qwen3-4B": 2560,
    "Qwen3-8B": 4096,
    "gpt-oss": 2880,
}
RULES: Mapping[str, Callable[[int], float]] = {
    "by width, as sweeps do": lambda width: rate_at_width(LoraConfig().learning_rate, width),
    "3e-4 for all": lambda width: 3e-4,
    "1e-3 for all": lambda width: 1e-3,
    "3e-3 for all": lambda width: 3e-3,
}


def read(grid: Path) -> dict[str, dict[float, float]]:
    """Return by model and rate the lowest loss of its ranks."""
    found: dict[str, dict[float, float]] = {}
    with grid.open(newline="") as file:
        for row in csv.DictReader(file):
            loss = float(row["test_nll"] or "nan")
            if math.isfinite(loss):
                own, rate = found.setdefault(row["model"], {}), float(row["learning_rate"])
                own[rate] = min(loss, own.get(rate, math.inf))
    return found


def cost(losses: Mapping[float, float], rate: float) -> float | None:
    """Return by which share the loss at a rate lies above the lowest; None beyond the rates that were tried."""
    rates = sorted(losses)
    if not rates[0] <= rate <= rates[-1]:
        return None
    return float(np.interp(math.log(rate), np.log(rates), [losses[one] for one in rates])) / min(losses.values()) - 1


def main(argv: Sequence[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("grid", type=Path)
    models = read(flags.parse_args(argv).grid)
    widths = {model: width for model in models for text, width in WIDTHS.items() if text in model}
    print(f"{len(widths)} of {len(models)} models, whose width is known\n")
    print("| rule | models | median | mean | worst |\n|---|---:|---:|---:|---:|")
    for name, rule in RULES.items():
        found = [cost(models[model], rule(width)) for model, width in widths.items()]
        costs = [one for one in found if one is not None]
        print(f"| {name} | {len(costs)} | {np.median(costs):.2%} | {np.mean(costs):.2%} | {max(costs):.2%} |")


if __name__ == "__main__":
    main()
