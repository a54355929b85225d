"""How a sweep is run: in which folder, on which Ray cluster, and what is printed. The search itself is a `Sweep`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.checks.guards import Guard


@dataclass(frozen=True)
class RunOptions:
    """Options of a run. `sweeps.cli.flags` makes each of them a flag; the comments are the flags' help."""

    allow: tuple[Guard, ...] = ()  # start although these guards found something; the leaderboard records it
    name: str | None = None  # name of the sweep and its folder; none: the script's, or the next free NAME-2, NAME-3 ...
    storage_path: Path = Path("runs")  # the folder in which the sweep's folder is created
    mirror: str | None = None  # keep a copy of the sweep's folder at s3://, gs:// or file://; --resume can use it
    address: str | None = None  # HOST:PORT of a running Ray cluster; none: RAY_ADDRESS, or this machine
    resume: bool = False  # continue the sweep called --name, or the latest of this script
    report: bool = True  # write report.html and its plots at the end
    verbose: bool = False  # print Ray's own messages, too
    trust: tuple[str, ...] = ()  # code that may run: files or modules of --like's learners; folder: for --resume


def has_name(argv: Sequence[str]) -> bool:
    """Whether a command line has the flag --name."""
    return any(word.partition("=")[0] == "--name" for word in argv)
