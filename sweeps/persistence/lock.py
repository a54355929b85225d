"""Who runs a sweep: a lock on a file of its folder, which the system frees when its process dies.

It is an open file description lock (https://man7.org/linux/man-pages/man2/F_GETLK.2const.html), as the system then says
whether there is one without taking it. With `flock`, and so with the package `filelock`, who looks has to try to take
it, and a driver that starts at that moment is refused.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sweeps.spec.validation import BadInput

LOCK_FILE = "driver.lock"
FLOCK = struct.Struct("hhqqi0q")  # C's `struct flock`: type, whence, start, length, process (0 for these locks)


@contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Hold the sweep. BadInput if another process does."""
    with (folder / LOCK_FILE).open("a") as file:
        while not _locked(file):
            if holder := driver(folder):  # else it has just ended
                raise BadInput(f"{folder} is being run by process {holder}; wait for it, or end it with Ctrl-C")
        yield


def driver(folder: Path) -> int | None:
    """The process that runs the sweep; None if nobody does."""
    try:
        with (folder / LOCK_FILE).open() as file:
            held = fcntl.fcntl(file, fcntl.F_OFD_GETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except FileNotFoundError:
        return None
    kind, _, _, length, _ = FLOCK.unpack(held)
    return None if kind == fcntl.F_UNLCK else length


def _locked(file: IO[str]) -> bool:
    """Take the lock, if it is free. It covers as many bytes as the owner's process id: so the lock itself says whose it
    is, at once, and no text can be older than it."""
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, os.getpid(), 0))
    except BlockingIOError:
        return False
    return True
