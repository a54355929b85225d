"""Who runs a sweep: a lock on a file of its folder, which the system frees when its process dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeps.engine.checks import BadInput

LOCK_FILE = "driver.lock"


@contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Hold the sweep. BadInput if another process does."""
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(
                f"{folder} is being run by process {driver(folder)}; wait for it, or end it with Ctrl-C"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def driver(folder: Path) -> int | None:
    """The process that runs the sweep; None if nobody does."""
    path = folder / LOCK_FILE
    if not path.is_file():
        return None
    with path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return int(file.read() or 0)
    return None
