"""Sizes that are known before any base is loaded: of a host's seats, of a trial's team. Needs no torch.

So the process of a trial that holds a seat stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.core import Evaluation, RoundResult


class HostFull(RuntimeError):
    """Every seat is taken (`may_wait`), or the trial is larger than the seats that there are."""

    def __init__(self, message: str, may_wait: bool = False) -> None:
        super().__init__(message, may_wait)
        self.may_wait = may_wait

    def __str__(self) -> str:
        return str(self.args[0])


class SeatLost(RuntimeError):
    """The trial has no seat here: this host took the place of one that died."""


@dataclass(frozen=True)
class SeatReply:
    """A trial's checkpoint and adapter as a host sends them to the trial's process, after a round with its results."""

    state: bytes
    adapter: Mapping[str, bytes]  # files in PEFT's format, path -> content
    trained: RoundResult | None = None
    evaluation: Evaluation | None = None  # on the search split, if the trial is searched and has not diverged


def write_files(folder: str, files: Mapping[str, bytes]) -> None:
    """Path -> content, below a folder."""
    for path, content in files.items():
        target = Path(folder) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def read_files(folder: str) -> dict[str, bytes]:
    """The same, of all files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@dataclass(frozen=True)
class Shape:
    """What never changes while a host lives, so that no trial's numbers depend on who else is there."""

    seats: int = 1
    lanes: int = 16  # rows of one training batch, all seats together
    decode_lanes: int | None = None  # prompts decoded at a time; None: what suits the device (`Bench`)
    max_rank: int = 32
    max_prompt: int = 32  # virtual tokens


@dataclass(frozen=True)
class TeamShape:
    """Processes that train one trial, and what each of them takes. `strategy`: auto, ddp or fsdp, of several."""

    processes: int
    cpus: float = 1
    gpus: float = 0
    strategy: str = "auto"
