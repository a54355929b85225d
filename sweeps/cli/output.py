"""Standard output and error that outlive whoever reads them: `| head -1`, a terminal that was closed, a full disk.

A sweep goes on without its display. No `print` needs to know of this, and neither do the streams of other libraries.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class LastingFile(io.FileIO):
    """A file descriptor to which a write never fails: what cannot be written is dropped."""

    def write(self, data: Any, /) -> int:
        try:
            while (written := super().write(data)) is None:  # another program made it non-blocking, and it is full
                select.select([], [self], [])
            return written
        except OSError:
            return memoryview(data).nbytes


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let standard output and error last, and show characters that their encoding lacks as escapes, as `\\u2588`."""
    _open_standard_files()
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = before[0] or open(os.devnull)  # noqa: SIM115
    sys.stdout, sys.stderr = lasting(before[1]), lasting(before[2])
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = before


def lasting(stream: TextIO | None) -> TextIO:
    """Return a stream to the same place to which writes never fail; the stream itself if it is no file's.

    Without a stream, as Python has none after `>&-`, it leads nowhere.
    """
    if stream is None:
        return open(os.devnull, "w")
    try:
        number = stream.fileno()
    except (OSError, ValueError, AttributeError):  # in memory, as in tests and notebooks
        return stream
    with suppress(OSError, ValueError):
        stream.flush()
    file = io.BufferedWriter(LastingFile(number, "wb", closefd=False))
    by_line = bool(getattr(stream, "line_buffering", False) or getattr(stream, "write_through", False))
    return io.TextIOWrapper(file, stream.encoding, "backslashreplace", line_buffering=by_line)


def _open_standard_files() -> None:
    """Open those of the descriptors 0, 1 and 2 that are closed: a database would get their number, and our prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
