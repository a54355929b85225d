"""How many of all 400 training and all 400 evaluation tasks of ARC-AGI-1 a learner solves, next to trivial strategies.

    python benchmarks/arc_all.py                              # percell on all 800, two cores: see docs/results/arc.md
    python benchmarks/arc_all.py --learner programs           # nothing is trained: see docs/results/arc.md
    python benchmarks/arc_all.py --learner ensemble           # programs, and percell where they have no answer
    python benchmarks/arc_all.py --learner joint              # networks that start from one trained on many tasks
    python benchmarks/arc_all.py --learner efe
    python benchmarks/arc_all.py --learner lora_ttt           # grids as text: under an hour of one core
    python benchmarks/arc_all.py --learner lora_ttt --rounds 0 --config.votes 1    # its base, untouched
    python benchmarks/arc_all.py --view 0 1 2 3               # as they are, and turned and recoloured in three ways
    python benchmarks/arc_all.py --splits search --rounds 1   # quicker: the tasks that a sweep searches on
    python benchmarks/arc_all.py --learner lora_ttt --splits search --task.max-side 8 --task.limit-search 8
    python benchmarks/arc_all.py --learner programs --keep programs.json    # for arc_sources.py

A learner trains on each task's demonstrations at test time, and answers as a finalist of a sweep does. `programs` is no
learner but a search over compositions of fixed transforms, so rounds and seed say nothing to it. Tasks that are not
answered count as unsolved: nothing is left out. Both attempts count (pass@2); intervals are Wilson's, 95 %. A lens is a
fixed transformation of the input that predicts the output's size; `lens` answers with the best one alone. A sweep
searches on the split `search`, which is a part of the 400 training tasks; the others it never sees.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
import tyro

from sweeps.results.statistics import wilson
from trainables.atomic import replace_file
from trainables.core import Example, Split
from trainables.learners.arc.canvas import canvas
from trainables.learners.arc.efe.learner import EfeConfig
from trainables.learners.arc.ensemble.learner import EnsembleConfig
from trainables.learners.arc.joint.learner import JointConfig
from trainables.learners.arc.lora_ttt.learner import LoraTttConfig
from trainables.learners.arc.percell.learner import PercellConfig
from trainables.tasks.arc.files import ArcPairs
from trainables.tasks.arc.grids import submission
from trainables.tasks.arc.programs.search import Limits
from trainables.tasks.arc.programs.solver import submitted
from trainables.tasks.arc.task import ArcTask, puzzle, trivial_completions
from trainables.tasks.arc.views import View, draw_view

Config = PercellConfig | EnsembleConfig | JointConfig | EfeConfig | LoraTttConfig | Limits
ALL = ArcTask(data="arc1", same_size=False, max_side=30)
# percell: the winner of the sweep in docs/results/arc.md, on `search`. lora_ttt: what one core does in an hour.
WINNER: dict[str, Any] = {
    "learning_rate": 8.52e-3,
    "weight_decay": 0.0258,
    "supervised_steps": 4,
    "ema_decay": 0.973,
    "permute_colours": True,
}
LEARNERS: dict[str, Config] = {
    "percell": PercellConfig(**WINNER),
    "ensemble": EnsembleConfig(**WINNER),
    "joint": JointConfig(**WINNER),
    "efe": EfeConfig(),
    "lora_ttt": LoraTttConfig(votes=4),
    "programs": Limits(),
}
SETS: dict[str, tuple[Split, ...]] = {"evaluation": ("test",), "training": ("search", "train")}  # the longest first


@dataclass(frozen=True)
class LearnerAnswers:
    """`completions` by key; `too_long`: tasks that do not fit into the base's length; `cpu`: total CPU seconds;
    `metrics` of the learner's evaluation."""

    completions: dict[str, str]
    too_long: int
    cpu: float
    metrics: Mapping[str, float] = field(default_factory=dict)


def answers(
    examples: Sequence[Example], config: Any, task: ArcTask, rounds: int, seed: int, base: str
) -> LearnerAnswers:
    """Train a learner for so many rounds and return its answers; runs in a process of its own.

    A finalist's test split is answered in the same way, by fresh networks. Only efe's memory differs: it is empty here
    at first, and holds the solved tasks of the search split for a finalist.
    """
    if isinstance(config, Limits):
        return program_answers(examples, config)
    import torch

    from trainables.models.loading import load

    torch.set_num_threads(1)
    start = time.process_time()
    learner = config.build(load(base) if config.needs_base else None, task.with_search(examples), seed)
    for _ in range(rounds):
        learner.round()
    evaluation = learner.evaluate()
    keys = (example.key for example in examples)
    too_long = round(evaluation.metrics.get("too_long", 0.0) * len(examples))
    said = dict(zip(keys, evaluation.completions, strict=True))
    return LearnerAnswers(said, too_long, time.process_time() - start, evaluation.metrics)


def program_answers(examples: Sequence[Example], limits: Limits) -> LearnerAnswers:
    """Answer with programs alone; nothing is trained."""
    start = time.process_time()
    done = {example.key: submitted(puzzle(example), limits) for example in examples}
    return LearnerAnswers(done, 0, time.process_time() - start)


def lens_alone(example: Example) -> str:
    """Answer with plane 0 of the canvas, untrained."""
    own = canvas(puzzle(example))
    return submission([(planes[0],) for planes in own.tests]) if own else ""


def seen_through(view: View, example: Example) -> Example:
    """Return the example, test outputs included, under a view. Its rule stays."""
    parts = (example.data.demonstrations, example.data.tests)
    turned = [tuple((view.apply(source), view.apply(target)) for source, target in part) for part in parts]
    return replace(example, data=ArcPairs(*turned))


def viewed(task: ArcTask, number: int) -> dict[Split, list[Example]]:
    """Return all splits as they are (0), or with every task under a random view, drawn from this seed."""
    splits: dict[Split, list[Example]] = {"search": [*task.search()], "train": [*task.train()], "test": [*task.test()]}
    if not number:
        return splits
    rng = np.random.default_rng(number)
    return {split: [seen_through(draw_view(rng, np.arange(10)), e) for e in own] for split, own in splits.items()}


@dataclass(frozen=True)
class Options:
    """Train a learner on every task and print how many it solves."""

    learner: Literal["percell", "ensemble", "joint", "efe", "lora_ttt", "programs"] = "percell"
    """The learner; --config.* changes its configuration."""
    config: tyro.conf.AvoidSubcommands[Config] = LEARNERS["percell"]
    task: ArcTask = ALL
    """Which tasks; all 800 by default."""
    splits: tuple[Split, ...] = ("search", "train", "test")
    """`search` and `train` are the training tasks, `test` the evaluation tasks."""
    rounds: int = 3
    """Rounds of `steps_per_round` AdamW steps for every task; 0 evaluates untrained networks, or the untouched base.
    With its 48 steps and 4 votes, lora_ttt takes about 5 CPU seconds a task on builtin:tiny: three quarters of an hour
    on one core for the 507 tasks that fit into its 512 tokens."""
    view: tuple[int, ...] = (0,)
    """0 leaves the tasks as they are; another number is the seed of a turn and a permutation of all ten colours for
    every task. Several are printed one after the other."""
    seed: int = 0
    """The learner's random seed."""
    base: str = "builtin:tiny"
    """The base on which lora_ttt trains adapters, and which efe may read."""
    processes: int = os.cpu_count() or 1
    """Splits that are trained side by side, with one thread each. Give 1 for a GPU."""
    keep: Path | None = None
    """A JSON file for the answers to the first view, submissions by task; `arc_sources.py` compares such files."""


def main(options: Options) -> None:
    config, task, learner = options.config, options.task, options.learner
    print(config)
    if not isinstance(config, Limits):
        print(f"{options.rounds} rounds of {config.steps_per_round} steps, seed {options.seed}", flush=True)
    job = partial(answers, config=config, task=task, rounds=options.rounds, seed=options.seed, base=options.base)
    start, kept = time.perf_counter(), dict[str, str]()
    with ProcessPoolExecutor(options.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked = [
            (number, name, {split: examples[split] for split in own if split in options.splits})
            for number in options.view
            for examples in [viewed(task, number)]
            for name, own in SETS.items()
        ]
        done = pool.map(job, [examples for *_, parts in asked for examples in parts.values()])
        for number, name, parts in asked:
            if own := [next(done) for _ in parts]:
                print(f"{name}, {f'view {number}' if number else 'as they are'}: {cost(own)}")
                for split, one in zip(parts, own, strict=True):
                    print(f"  {split}: {calibrated(one.metrics)}")
                said = {key: text for each in own for key, text in each.completions.items()}
                report(parts, learner, said, task)
                kept = said | kept
    if options.keep:
        replace_file(options.keep, json.dumps(kept).encode())
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes in all")


def cost(done: Sequence[LearnerAnswers]) -> str:
    said = [text for own in done for text in own.completions.values()]
    grids, long = sum("[[" in text for text in said), sum(own.too_long for own in done)
    reads = f"{grids} of {len(said)} are answered with grids" + (f", {long} are too long" if long else "")
    return f"{sum(own.cpu for own in done):.0f} CPU s; {reads}"


def calibrated(metrics: Mapping[str, float]) -> str:
    """Say how often the first attempt is right, by what gave it and how many votes agree with it."""
    levels = [name.partition(".")[2] for name in metrics if name.startswith("share.")]
    told = [f"{one} {metrics[f'share.{one}']:.1%}, right {metrics[f'pass_at_1.{one}']:.1%}" for one in levels]
    return "; ".join(told) or "nothing is known of how sure it was"


def known_sizes(examples: Sequence[Example]) -> str:
    """Count the tasks whose outputs have another size than the inputs, and those whose sizes lenses predict
    correctly."""
    other = [e for e in examples if any(a.shape != b.shape for a, b in e.data.demonstrations + e.data.tests)]
    fits = [(own, [target.shape for _, target in e.data.tests]) for e in other if (own := canvas(puzzle(e)))]
    right = sum([planes.shape[1:] for planes in own.tests] == shapes for own, shapes in fits)
    return f"{len(other)} tasks change theirs; of them, a lens fits {len(fits)}, and all sizes are right in {right}"


def groups(parts: dict[Split, list[Example]]) -> Iterator[tuple[str, list[Example]]]:
    """Yield the examples by kind, and by split if there are several."""
    everyone = [example for examples in parts.values() for example in examples]
    for kind in ("same_size", "other_size"):
        yield kind, [example for example in everyone if example.kind == kind]
    if len(parts) > 1:
        yield from parts.items()


def share_of(scores: Sequence[float]) -> str:
    """Return how many are solved, as a share with its interval."""
    solved, total = int(sum(scores)), len(scores)
    if not total:
        return "0/0"
    low, high = wilson(solved, total)
    return f"{solved}/{total} = {solved / total:.1%} [{low:.1%}, {high:.1%}]"


def report(parts: dict[Split, list[Example]], learner: str, said: dict[str, str], task: ArcTask) -> None:
    """Print how many tasks the learner and trivial strategies solve, by kind and split; which tasks; and how often
    lenses predict the sizes of outputs."""
    examples = [example for own in parts.values() for example in own]
    print(f"  sizes: {known_sizes(examples)}")
    answered = {
        learner: said,
        "lens": {example.key: lens_alone(example) for example in examples},
        **{name: {e.key: trivial_completions(puzzle(e))[name] for e in examples} for name in ("copy", "constant")},
    }
    for name, completions in answered.items():
        scores = {e.key: task.score(e, completions[e.key]) for e in examples}
        by = [f"{group} {share_of([scores[e.key] for e in own])}" for group, own in groups(parts)]
        first = sum(task.details(e, completions[e.key])["pass_at_1"] for e in examples)
        print(f"  {name}: {share_of([*scores.values()])}; pass@1 {first:.0f}; {', '.join(by)}")
        if name == learner:
            print("    solved:", *sorted(key for key, score in scores.items() if score), flush=True)


if __name__ == "__main__":
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--learner", choices=LEARNERS, default="percell")
    main(tyro.cli(Options, default=Options(config=LEARNERS[first.parse_known_args()[0].learner])))
