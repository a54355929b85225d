"""Sizes of hosts and worker groups, and the errors and replies of hosts.

No torch is imported, so that the process of a trial whose work is done in a host takes little memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.core import Evaluation, RoundResult


class HostFull(RuntimeError):
    """All seats are taken (`may_wait`), or the trial is larger than the host's seats."""

    def __init__(self, message: str, may_wait: bool = False) -> None:
        super().__init__(message, may_wait)
        self.may_wait = may_wait

    def __str__(self) -> str:
        return str(self.args[0])


class SeatLost(RuntimeError):
    """The trial has no seat in this host, which was restarted after it died."""


@dataclass(frozen=True)
class SeatReply:
    """A trial's checkpoint and adapter as a host sends them to the trial's process, after a round with its results."""

    state: bytes
    adapter: Mapping[str, bytes]  # files in PEFT's format, path -> content
    trained: RoundResult | None = None
    evaluation: Evaluation | None = None  # on the search split, if the trial is searched and has not diverged


def write_files(folder: str, files: Mapping[str, bytes]) -> None:
    """Write files, path -> content, below a folder."""
    for path, content in files.items():
        target = Path(folder) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def read_files(folder: str) -> dict[str, bytes]:
    """Read all files below a folder, path -> content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@dataclass(frozen=True)
class Shape:
    """The sizes of a host. They never change, so that a trial's numbers do not depend on the other trials."""

    seats: int = 1
    lanes: int = 16  # rows of one training batch, all seats together
    decode_lanes: int | None = None  # prompts decoded at a time; None: by the device (`BatchExecutor`)
    max_rank: int = 32
    max_prompt: int = 32  # virtual tokens


@dataclass(frozen=True)
class WorkerGroupShape:
    """Processes that train one trial together, and the resources of each. `strategy`: auto, ddp or fsdp."""

    processes: int
    cpus: float = 1
    gpus: float = 0
    strategy: str = "auto"
