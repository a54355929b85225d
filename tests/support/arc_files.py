"""ARC tasks written by hand, as JSON in the official format, with ids that fall into the split one wants."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from trainables.tasks.arc.data import SEARCH_SHARE, TEST_SHARE
from trainables.tasks.files.splits import hash_fraction

Rows = list[list[int]]
SPLITS = {"search": (0.0, SEARCH_SHARE), "test": (SEARCH_SHARE, SEARCH_SHARE + TEST_SHARE), "train": (0.5, 1.0)}


def ids(split: str, number: int) -> list[str]:
    low, high = SPLITS[split]
    names = (f"task{i}" for i in count())
    return [next(name for name in names if low <= hash_fraction(name) < high) for _ in range(number)]


def task(demonstrations: list[tuple[Rows, Rows]], tests: list[tuple[Rows, Rows]]) -> dict[str, Any]:
    parts = {"train": demonstrations, "test": tests}
    return {name: [{"input": a, "output": b} for a, b in pairs] for name, pairs in parts.items()}


def recolour() -> dict[str, Any]:
    """Every 1 becomes 2; the rest stays."""
    inputs = [
        [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
        [[1, 1, 0], [0, 0, 0], [0, 3, 1]],
        [[0, 0, 1], [0, 1, 3], [0, 0, 0]],
        [[0, 1, 3], [0, 1, 0], [1, 0, 0]],
    ]
    pairs = [(rows, [[2 if cell == 1 else cell for cell in row] for row in rows]) for rows in inputs]
    return task(pairs[:3], pairs[3:])


def becomes(first: int, second: int, seed: int) -> dict[str, Any]:
    """Every cell of one colour becomes another. Each grid has all of colours 0 to 4, so none may be renamed."""
    rng = np.random.default_rng(seed)
    grids = [np.concatenate([np.arange(5), rng.integers(0, 5, 4)]) for _ in range(5)]
    pairs = [
        (g.tolist(), np.where(g == first, second, g).tolist())
        for g in (rng.permutation(g).reshape(3, 3) for g in grids)
    ]
    return task(pairs[:4], pairs[4:])


def write(folder: Path, tasks: dict[str, Any]) -> str:
    folder.mkdir(exist_ok=True)
    for key, content in tasks.items():
        (folder / f"{key}.json").write_text(json.dumps(content))
    return str(folder)


def write_all_splits(folder: Path, content: dict[str, Any], search: int = 1) -> str:
    """Return one task under ids of every split (`search` of them in the search split)."""
    return write(folder, {key: content for split in SPLITS for key in ids(split, search if split == "search" else 1)})
