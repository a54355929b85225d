"""Files of ARC tasks as the transformer of joint reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.arc_files import write
from trainables.core import Split
from trainables.learners.arc.canvas import canvas
from trainables.learners.arc.joint import rows
from trainables.tasks.arc.task import ArcTask, puzzle

SPLITS: tuple[Split, ...] = ("train", "search", "test")


def filed(folder: Path, tasks: dict[str, Any]) -> Path:
    arc = ArcTask(data=write(folder, tasks), same_size=False, max_side=30)
    splits = {split: arc.split(split) for split in SPLITS}
    seen = {one.key: own for part in splits.values() for one in part if (own := canvas(puzzle(one))) is not None}
    rows.write(folder / "arc.tasks", splits, seen)
    return folder / "arc.tasks"
