"""Grids and tasks for programs, written as words: "12 30" is a grid of two rows."""

from __future__ import annotations

import numpy as np

from trainables.tasks.arc.task import Puzzle


def grid(rows: str) -> np.ndarray:
    return np.array([[int(mark) for mark in row] for row in rows.split()], dtype=np.int8)


def task(*pairs: tuple[str, str], tests: tuple[str, ...]) -> Puzzle:
    return Puzzle(tuple((grid(a), grid(b)) for a, b in pairs), tuple(grid(one) for one in tests))
