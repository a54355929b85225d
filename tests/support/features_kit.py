"""Two small puzzles, and what a folder of features and a base tell of who has computed them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from trainables.models.loading import Base
from trainables.tasks.arc.task import Puzzle


def grid(*rows: str) -> np.ndarray:
    return np.array([[int(cell) for cell in row] for row in rows], dtype=np.int8)


PUZZLES = {
    "first": Puzzle(((grid("012", "345"), grid("21", "43")), (grid("7"), grid("8")), (grid("90"), grid("09"))), ()),
    "second": Puzzle(((grid("11", "22"), grid("33", "44")),), (grid("5"),)),
}
DEMONSTRATIONS = 4


def count_forwards(base: Base, seconds: float = 0.0) -> list[int]:
    """Grows by the length of every sequence that the model reads from now on; each takes `seconds` longer."""
    seen: list[int] = []

    def note(module: Any, args: Any, output: Any) -> None:
        seen.append(output.last_hidden_state.shape[1])
        time.sleep(seconds)

    base.model.base_model.register_forward_hook(note)
    return seen


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.arrow")}
