"""What the learners that train on ARC tasks at test time share: seeds by task, the two attempts, and the metrics."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from trainables.core import Evaluation, Example, Split, Task
from trainables.tasks.arc.grids import Grid, submission
from trainables.tasks.arc.task import puzzle

NO_ANSWER = np.zeros((0, 0), dtype=np.int8)


def seed_of(key: str, seed: int) -> int:
    """A task's own seed, the same whatever else is in its split."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:4])


def check_same(held: Iterable[str], tasks: Iterable[str]) -> None:
    """Raises ValueError where a checkpoint's tasks are not these."""
    if set(held) != set(tasks):
        raise ValueError("this checkpoint holds other ARC tasks; resume with the task it was written with")


def check_any(canvases: Collection[Any], learner: str) -> None:
    """Raises ValueError where there are none."""
    if not canvases:
        reason = "no lens fits the demonstrations of any task that is to be answered"
        raise ValueError(f"{reason}, so {learner} cannot answer; give other tasks, or same_size=True")


def no_answer(outputs: int) -> str:
    """The submission of a task that is not tried, for so many test inputs."""
    return submission([(NO_ANSWER,)] * outputs)


def submissions(examples: Sequence[Example], said: Mapping[str, Sequence[tuple[Grid, ...]]]) -> list[str]:
    """Per task its attempts for each test input; no answer for a task whose key `said` does not have."""
    known = {example.key: submission(said[example.key]) for example in examples if example.key in said}
    return [known.get(e.key) or no_answer(len(puzzle(e).test_inputs)) for e in examples]


def counted(found: Sequence[Grid | None]) -> tuple[list[Grid], list[float]]:
    """Different grids in order of their first appearance, and how often each was found; None is no grid."""
    there = [grid for grid in found if grid is not None]
    names = [(grid.shape, grid.tobytes()) for grid in there]
    grids, counts = dict(zip(names, there, strict=True)), Counter(names)
    return [grids[name] for name in counts], [float(count) for count in counts.values()]


def two_best(grids: Sequence[Grid], scores: Sequence[float]) -> tuple[Grid, ...]:
    """The attempts: at most two grids, the highest score first, of equal ones the earlier; `NO_ANSWER` for none."""
    order = sorted(range(len(grids)), key=lambda i: -scores[i])
    return tuple(grids[i] for i in order[:2]) or (NO_ANSWER,)


def evaluation_of(task: Task, split: Split, completions: Sequence[str]) -> Evaluation:
    """Score the submissions of a split, in its order. Metrics: `score.<kind>` and the task's details."""
    items: list[float] = []
    sums: dict[str, list[float]] = defaultdict(list)
    for example, completion in zip(task.split(split), completions, strict=True):
        score = task.score(example, completion)
        items.append(score)
        sums[f"score.{example.kind}"].append(score)
        for name, value in task.details(example, completion).items():
            sums[name].append(value)
    metrics = {name: float(np.mean(values)) for name, values in sums.items()}
    return Evaluation(float(np.mean(items)), items, list(completions), metrics=metrics)
