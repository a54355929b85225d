"""The gain of each phase of StrategyQA on the generated questions, with three seeds and 500 test questions.

    python benchmarks/phases.py                       # 15 minutes on two cores
    python benchmarks/phases.py --seeds 1 --steps 80  # quicker

Configurations are fixed: A is the winner of `python sweeps/strategyqa.py --phase sft`, B and C are about the learners'
defaults. A and B get as many steps of 16 rows, C an eighth; B starts from the base and, beside it, from A; C from B.
Intervals are over questions, scores averaged over seeds (`sweeps/results/statistics.py`); differences are paired.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
import tyro

from sweeps.results.comparison import compare
from sweeps.results.statistics import bootstrap_mean
from trainables.learners.lm.cot import CotConfig
from trainables.learners.lm.dpo import DpoConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.tasks.strategyqa.task import StrategyQaTask

TASK, BASE = StrategyQaTask(), "builtin:tiny"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")
SHARED: Any = {"target_modules": TARGETS, "per_device_train_batch_size": 16}
A = LoraConfig(learning_rate=1.18e-3, r=32, lora_alpha=64, weight_decay=0.0439, warmup_steps=5, **SHARED)
B = CotConfig(learning_rate=2e-3, **SHARED)
C = DpoConfig(**SHARED)
PREFERENCE_STEPS = 0.125  # of the others' steps: a pass over C's pairs

Scores = dict[str, Any]


def train(config: LoraConfig, base: str, seed: int, steps: int, to: Path) -> tuple[Scores, str]:
    """Train a phase. Return its metrics on the test split, and the path of the base merged with its adapter."""
    from trainables.models.loading import load
    from trainables.models.merge import merge
    from trainables.packed.solo import Solo

    own = load(base)
    learner = Solo(own, replace(config, steps_per_round=steps).build(own, TASK, seed), seed)
    learner.round()
    metrics = learner.evaluate("test").flat()
    (to / "adapter").mkdir(parents=True)
    learner.save(str(to / "adapter"))
    learner.close()
    merge(base, to / "adapter", to / "merged", own.model.dtype)  # the next phase goes on from it
    return metrics, str(to / "merged")


def phases(seed: int, steps: int) -> dict[str, Scores]:
    """Train all phases with one seed; return their metrics by name."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root, found = Path(scratch), {}
        found["A: answers"], after_a = train(A, BASE, seed, steps, root / "a")
        found["B after A"], _ = train(B, after_a, seed, steps, root / "ba")
        found["B: rationales"], after_b = train(B, BASE, seed, steps, root / "b")
        found["C after B: preferences"], _ = train(
            C, after_b, seed, max(1, round(PREFERENCE_STEPS * steps)), root / "c"
        )
    return found


def table(seeds: list[dict[str, Scores]], majority: float) -> list[str]:
    """Return a row per phase, then the differences between phases."""
    kinds = np.array([example.kind for example in TASK.test()])
    lines = [f"majority baseline {majority:.1%}; {len(kinds)} test questions, {len(seeds)} seeds", ""]
    lines += ["| phase | score | two hops | one hop | by seed | unparsed | truncated | calibration error |"]
    lines += ["|---|---|---|---|---|---:|---:|---:|"]
    scores: dict[str, np.ndarray] = {n: np.array([own[n]["items"] for own in seeds]) for n in seeds[0]}
    for name, items in scores.items():
        cells = [_with_interval(items), *(_with_interval(items[:, kinds == kind]) for kind in ("two_hops", "one_hop"))]
        cells.append(", ".join(f"{mean:.1%}" for mean in items.mean(1)))
        cells += [f"{_mean(seeds, name, key):.1%}" for key in ("unparsed", "truncated")]
        lines.append(f"| {name} | {' | '.join(cells)} | {_mean(seeds, name, 'calibration_error'):.3f} |")
    two = {name: items[:, kinds == "two_hops"] for name, items in scores.items()}
    lines += ["", _difference(two, "B: rationales", "A: answers", "on two hops")]
    lines += [_difference(two, "B after A", "A: answers", "on two hops")]
    return [*lines, _difference(scores, "C after B: preferences", "B: rationales", "on all questions")]


def _with_interval(items: np.ndarray) -> str:
    low, high = bootstrap_mean(items.mean(0))
    return f"{items.mean():.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def _mean(seeds: list[dict[str, Scores]], name: str, key: str) -> float:
    return float(np.mean([own[name][key] for own in seeds]))


def _difference(scores: Mapping[str, np.ndarray], first: str, second: str, where: str) -> str:
    low, high = bootstrap_mean((scores[first] - scores[second]).mean(0))
    (told,) = compare({name: scores[name] for name in (first, second)})
    gain = scores[first].mean() - scores[second].mean()
    sure = f"[{100 * low:+.1f}, {100 * high:+.1f}], p = {told.p:.2g}"
    return f"{first} less {second} {where}: {100 * gain:+.1f} points {sure}"


def main(seeds: int = 3, steps: int = 320, processes: int = 2) -> None:
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(phases, range(1, seeds + 1), [steps] * seeds))
    test, train_ = TASK.test(), TASK.train()
    commonest = max(("Yes", "No"), key=lambda answer: sum(example.answer == answer for example in train_))
    print("\n".join(table(found, sum(example.answer == commonest for example in test) / len(test))))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
