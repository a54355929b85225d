"""Measure step after step within a budget of time, and keep what was measured if the command is cut off."""

from __future__ import annotations

import gc
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainables.atomic import replace_file
from trainables.training.oom import is_out_of_memory

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """`kind`: steps of one kind are taken to last equally long. `measure` returns what is put into the step's row."""

    name: str
    kind: str
    measure: Callable[[], dict[str, Any]]


class OutOfTime(BaseException):
    """Not an Exception, so that no library or host handles it."""


class Results:
    """`measurements.json` and `table.md` in a folder. Each row replaces both files atomically."""

    def __init__(self, folder: Path, facts: dict[str, Any], table: Callable[[Rows], str]) -> None:
        self.folder, self.facts, self.rows, self._table = folder, facts, Rows(), table
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        content = json.dumps({**self.facts, "measurements": self.rows}, indent=1)
        replace_file(self.folder / "measurements.json", content.encode())
        replace_file(self.folder / "table.md", self.table().encode())
        print(json.dumps(row), flush=True)

    def table(self) -> str:
        return self._table(self.rows)


def run_steps(steps: Sequence[Step], results: Results, seconds: float) -> None:
    """Run the steps in their order and add a row for each: `step`, `outcome`, `note`, `wall_s`, and its measurements.

    Outcomes are "measured", "out of memory", "failed", "out of time" (interrupted at the end of the budget), and
    "skipped": the last step of this kind took longer than the time that is left.
    """
    end, took = time.monotonic() + seconds, dict[str, float]()
    for step in steps:
        start = time.monotonic()
        left, needed = end - start, took.get(step.kind, 0.0)
        if left <= needed:
            note = f"{max(0.0, left):.0f} s are left; the last step of its kind took {needed:.0f} s"
            results.add({"step": step.name, "outcome": "skipped", "note": note, "wall_s": 0.0})
            continue
        outcome, note, measured = _outcome(step, left)
        wall = time.monotonic() - start
        if outcome == "measured":
            took[step.kind] = wall
        results.add({"step": step.name, "outcome": outcome, "note": note, "wall_s": round(wall, 2), **measured})


def _outcome(step: Step, left: float) -> tuple[str, str, dict[str, Any]]:
    try:
        with deadline(left):
            _free_memory()
            return "measured", "", step.measure()
    except OutOfTime:
        return "out of time", f"interrupted after {left:.0f} s, at the end of the budget", {}
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return "out of memory" if is_out_of_memory(error) else "failed", said, {}


def _free_memory() -> None:
    """Free what an earlier step left behind, in particular one that ran out of memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after so many seconds. Only the main thread may use it."""

    def ring(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    # Once more every second: where the garbage collector calls Python, an exception is printed and lost.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
