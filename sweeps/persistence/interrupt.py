"""Ctrl-C and full disks: end a sweep with all work kept, and print the command that resumes it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeps.spec.validation import BadInput

NOTICES = ("stopping; everything done so far is kept", "still stopping; once more leaves at once, with what is on disk")


@contextmanager
def graceful_interrupt() -> Iterator[Callable[[], bool]]:
    """Handle Ctrl-C while Tune runs, and afterwards if it was pressed. Yield a function that returns whether it was.

    The first Ctrl-C makes Tune stop and keep all work, the second prints a notice, the third raises KeyboardInterrupt.
    Tune itself does not report an interrupt, and ignores one that comes after its last trial has ended.
    """
    before, pressed = signal.getsignal(signal.SIGINT), 0

    def press(*_: Any) -> None:
        nonlocal pressed
        pressed += 1
        count = pressed  # the next signal may come before this function returns
        if count > len(NOTICES) or signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
            raise KeyboardInterrupt
        os.write(2, f"\n{NOTICES[count - 1]}\n".encode())  # the signal may have interrupted a `print`
        if count == 1:
            signal.raise_signal(signal.SIGUSR1)  # Tune handles it as Ctrl-C

    signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # until Tune installs its handler
    signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed > 0
    finally:
        if not pressed:
            signal.signal(signal.SIGINT, before)


@contextmanager
def explain_resume(command: str, folder: Path) -> Iterator[None]:
    """Add the command that resumes the sweep to the error of a Ctrl-C outside Tune, and to that of a full disk."""
    try:
        yield
    except KeyboardInterrupt:
        ignore_interrupts()
        raise KeyboardInterrupt(f"everything done so far is kept. Go on with:\n  {command}") from None
    except Exception as error:
        if not is_disk_full(error):
            raise
        where = min((folder, Path(tempfile.gettempdir())), key=lambda one: shutil.disk_usage(one).free)
        raise BadInput(f"no space left in {where}; free some, then: {command}") from None


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether this error, or one that caused it, is a full disk. SQLite reports that only in its message."""
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC or "disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def ignore_interrupts() -> None:
    """Ignore Ctrl-C from now on: this process only cleans up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
