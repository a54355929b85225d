"""How many of all 400 training and all 400 evaluation tasks of ARC-AGI-1 percell solves, next to trivial strategies.

    python benchmarks/arc_all.py                                   # all 800, on two cores: see docs/arc.md
    python benchmarks/arc_all.py --sets training --steps 32        # quicker
    python benchmarks/arc_all.py --view 1                          # every task turned and recoloured as a whole
    python benchmarks/arc_all.py --base builtin:tiny               # a language model untouched instead, grids as text
    python benchmarks/arc_all.py --processes 1 --at-once 400 --config.seeds 4    # a GPU takes many tasks at once

Every task gets fresh networks, trained on its demonstrations alone. Tasks without an answer count as unsolved: nothing
is left out. Both attempts count (pass@2); intervals are Wilson's, 95 %. `lens` is the input through the lens that fits
the demonstrations best, untrained. A sweep searches on the tasks called `searched`; the others it never sees.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
import tyro

from sweeps.results.statistics import wilson
from trainables.core import Example, Split
from trainables.learners.arc_canvas import canvas
from trainables.learners.lora_ttt import LoraTttConfig
from trainables.learners.percell import PercellConfig, answers, canvases_of, open_batches
from trainables.tasks.arc import ArcTask, puzzle, trivial_completions
from trainables.tasks.arc_data import ArcPairs
from trainables.tasks.arc_grids import submission
from trainables.tasks.arc_views import View, draw_view

TASK = ArcTask(data="arc1", same_size=False, max_side=30)
# The winner of the sweep in docs/arc.md, on the tasks called `searched`.
FOUND = PercellConfig(
    learning_rate=8.52e-3, weight_decay=0.0258, supervised_steps=4, ema_decay=0.973, permute_colours=True
)


def solve(examples: Sequence[Example], config: PercellConfig, steps: int, seed: int) -> tuple[list[str], float]:
    """Submissions for the tasks of one batch, and the CPU seconds that they took."""
    import torch

    torch.set_num_threads(1)
    start = time.process_time()
    batches = open_batches(canvases_of(examples), config, seed)
    for batch in batches.values():
        batch.train(steps)
    return answers(examples, batches), time.process_time() - start


def shares(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Tasks of like size together, `size` at a time, the largest first, so that no process works alone at the end."""
    ordered = sorted(examples, key=lambda example: -max(grid.size for _, grid in example.data.demonstrations))
    return [list(ordered[start : start + size]) for start in range(0, len(ordered), size)]


def untouched(base: str, splits: Sequence[Split]) -> dict[str, str]:
    """What a base says that nothing was trained on: `lora_ttt` before its first step, each task as it is. Where a
    question does not fit into the base's length even without demonstrations, nothing."""
    from trainables.bases import load

    learner = LoraTttConfig(votes=1, tasks_at_once=16).build(load(base), TASK, 0)
    return {
        example.key: completion
        for split in splits
        for example, completion in zip(getattr(TASK, split)(), learner.evaluate(split)["completions"], strict=True)
    }


def lens_alone(example: Example) -> str:
    """Plane 0 of the canvas as it is."""
    own = canvas(puzzle(example))
    return submission([(planes[0],) for planes in own.tests]) if own else ""


def seen_through(view: View, example: Example) -> Example:
    """The task, test outputs included, under a view: its rule is the same."""
    parts = (example.data.demonstrations, example.data.tests)
    turned = [tuple((view.apply(source), view.apply(target)) for source, target in part) for part in parts]
    return replace(example, data=ArcPairs(*turned))


def main(
    config: PercellConfig = FOUND,
    sets: tuple[Literal["training", "evaluation"], ...] = ("training", "evaluation"),
    steps: int = 96,
    seed: int = 0,
    view: int | None = None,
    base: str | None = None,
    processes: int = os.cpu_count() or 1,
    at_once: int = 8,
) -> None:
    """`steps`: AdamW steps for each task. `view`: seed of a turn and a permutation of all ten colours for every task.
    `base`: asks this one untouched, and trains nothing. `processes`: shares of the tasks side by side, a thread each.
    `at_once`: tasks of a share; as many of them as the device takes are one batch."""
    if base and view is not None:
        raise SystemExit(f"--base {base} is asked the tasks as they are; leave out --view {view}")
    print(base or config)
    rng = None if view is None else np.random.default_rng(view)
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawned) as pool:
        for name in sets:
            parts = {"searched": TASK.search(), "others": TASK.train()} if name == "training" else {"all": TASK.test()}
            part_of = {example.key: part for part, examples in parts.items() for example in examples}
            examples = [example for part in parts.values() for example in part]
            if rng is not None:
                examples = [seen_through(draw_view(rng, np.arange(10)), example) for example in examples]
            start = time.perf_counter()
            if base:
                said = untouched(base, ("search", "train") if name == "training" else ("test",))
                print(f"{name}: {base} untouched; {(time.perf_counter() - start) / 60:.1f} min", end="; ")
                print(f"{sum('[[' in answer for answer in said.values())} of {len(said)} answers are grids")
                report(examples, {"base": said}, part_of)
                continue
            work = shares(examples, at_once)
            done = list(pool.map(partial(solve, config=config, steps=steps, seed=seed), work))
            minutes = (time.perf_counter() - start) / 60
            order = [example.key for group in work for example in group]
            said = dict(zip(order, (answer for own, _ in done for answer in own), strict=True))
            cost = f"{steps} steps, seed {seed}; {minutes:.1f} min, {sum(cpu for _, cpu in done) / 60:.1f} min of CPU"
            print(f"{name}: {cost}")
            report(examples, {"percell": said}, part_of)


def known_sizes(examples: Sequence[Example]) -> str:
    """Of tasks whose outputs have another size than the inputs: how often lenses say it, and say it right."""
    other = [e for e in examples if any(a.shape != b.shape for a, b in e.data.demonstrations + e.data.tests)]
    fits = [(own, [target.shape for _, target in e.data.tests]) for e in other if (own := canvas(puzzle(e)))]
    right = sum([planes.shape[1:] for planes in own.tests] == shapes for own, shapes in fits)
    return f"{len(other)} tasks change theirs; of them, a lens fits {len(fits)}, and all sizes are right in {right}"


def report(examples: Sequence[Example], said: dict[str, dict[str, str]], part_of: dict[str, str]) -> None:
    """Solved counts of what was asked and of trivial strategies, by part and by kind; which tasks; and how far lenses
    know the sizes of outputs."""
    print(f"  sizes: {known_sizes(examples)}")
    answered = {
        **said,
        "lens": {example.key: lens_alone(example) for example in examples},
        **{name: {e.key: trivial_completions(puzzle(e))[name] for e in examples} for name in ("copy", "constant")},
    }
    for name, completions in answered.items():
        scores = {e.key: TASK.score(e, completions[e.key]) for e in examples}
        solved, total = int(sum(scores.values())), len(examples)
        low, high = wilson(solved, total)
        by = []
        for group in ("same_size", "other_size", *sorted(set(part_of.values()))):
            own = [scores[e.key] for e in examples if group in (e.kind, part_of[e.key])]
            by.append(f"{group} {sum(own):.0f}/{len(own)}")
        first = sum(TASK.details(e, completions[e.key])["pass_at_1"] for e in examples)
        rate = f"{solved}/{total} = {solved / total:.1%} [{low:.1%}, {high:.1%}]"
        print(f"  {name}: {rate}; pass@1 {first:.0f}; {', '.join(by)}")
        if name in said:
            print("    solved:", *sorted(key for key, score in scores.items() if score), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
