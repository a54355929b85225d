"""A lock on a sweep's folder, held by the process that runs the sweep. The system frees it when that process dies.

It is an open file description lock (https://man7.org/linux/man-pages/man2/F_GETLK.2const.html), which can be tested
without being taken. With `flock`, and so with the package `filelock`, `espalier status` would have to take the lock to
test it, and a driver that starts at that moment would be refused.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from trainables.bad_input import BadInput

LOCK_FILE = "driver.lock"
FLOCK = struct.Struct("hhqqi0q")  # C's `struct flock`: type, whence, start, length, process (0 for these locks)


@contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Hold the lock. Raises BadInput if another process has it."""
    with (folder / LOCK_FILE).open("a") as file:
        while not _locked(file):
            if holder := driver(folder):  # else it has just ended
                raise BadInput(folder, f"is being run by process {holder}", "wait for it, or end it with Ctrl-C")
        yield


def driver(folder: Path) -> int | None:
    """Return the id of the process that runs the sweep; None if none does."""
    try:
        with (folder / LOCK_FILE).open() as file:
            held = fcntl.fcntl(file, fcntl.F_OFD_GETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except (FileNotFoundError, PermissionError):  # none, or another user's
        return None
    kind, _, _, length, _ = FLOCK.unpack(held)
    return None if kind == fcntl.F_UNLCK else length


def _locked(file: IO[str]) -> bool:
    """Take the lock if it is free.

    It covers as many bytes as the owner's process id, so that the lock itself names its owner. An id that was written
    into the file could be that of an earlier owner.
    """
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, os.getpid(), 0))
    except BlockingIOError:
        return False
    return True
