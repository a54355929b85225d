"""Seeds, attempts, submissions and metrics, shared by the learners that train on ARC tasks at test time."""

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
    """Return a task's own random seed, which does not depend on the other tasks of its split."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:4])


def check_same(held: Iterable[str], tasks: Iterable[str]) -> None:
    """Raise ValueError if a checkpoint has other tasks."""
    if set(held) != set(tasks):
        raise ValueError("this checkpoint holds other ARC tasks; resume with the task it was written with")


def check_any(canvases: Collection[Any], learner: str) -> None:
    """Raise ValueError if there is no canvas."""
    if not canvases:
        reason = "no lens fits the demonstrations of any task that is to be answered"
        raise ValueError(f"{reason}, so {learner} cannot answer; give other tasks, or same_size=True")


def no_answer(outputs: int) -> str:
    """Return the submission of a task without an answer, for so many test inputs."""
    return submission([(NO_ANSWER,)] * outputs)


def submissions(examples: Sequence[Example], attempts: Mapping[str, Sequence[tuple[Grid, ...]]]) -> list[str]:
    """Return a submission per task from its attempts for each test input; tasks without attempts get no answer."""
    known = {example.key: submission(attempts[example.key]) for example in examples if example.key in attempts}
    return [known.get(e.key) or no_answer(len(puzzle(e).test_inputs)) for e in examples]


def counted(found: Sequence[Grid | None]) -> tuple[list[Grid], list[float]]:
    """Return the distinct grids in order of first appearance, and how often each occurs; None is skipped."""
    present = [grid for grid in found if grid is not None]
    names = [(grid.shape, grid.tobytes()) for grid in present]
    grids, counts = dict(zip(names, present, strict=True)), Counter(names)
    return [grids[name] for name in counts], [float(count) for count in counts.values()]


def two_best(grids: Sequence[Grid], scores: Sequence[float]) -> tuple[Grid, ...]:
    """Return the one or two grids with the highest scores, the earlier first on ties; `NO_ANSWER` if there are none."""
    order = sorted(range(len(grids)), key=lambda i: -scores[i])
    return tuple(grids[i] for i in order[:2]) or (NO_ANSWER,)


def evaluation_of(task: Task, split: Split, completions: Sequence[str]) -> Evaluation:
    """Score the submissions of a split, given in its order. Metrics: `score.<kind>` and the task's details."""
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
