"""What ends a sweep from outside, Ctrl-C or a full disk: in order where that can be, and with how to go on."""

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

SAID = ("stopping; everything done so far is kept", "still stopping; once more leaves at once, with what is on disk")


@contextmanager
def graceful_interrupt() -> Iterator[Callable[[], bool]]:
    """While Tune runs. The first Ctrl-C ends it with all its work kept, the second is told to wait, the third waits for
    nothing. Once it was pressed that goes for all that is written afterwards, too.

    Yields whether it was pressed: Tune itself does not say, and does not hear of it once its last trial has ended."""
    before, pressed = signal.getsignal(signal.SIGINT), 0

    def press(*_: Any) -> None:
        nonlocal pressed
        pressed += 1
        mine = pressed  # the next may come before this one is through
        if mine > len(SAID) or signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
            raise KeyboardInterrupt
        os.write(2, f"\n{SAID[mine - 1]}\n".encode())  # `print` may be what was interrupted
        if mine == 1:
            signal.raise_signal(signal.SIGUSR1)  # which Tune takes for Ctrl-C

    signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # until Tune listens to it
    signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed > 0
    finally:
        if not pressed:
            signal.signal(signal.SIGINT, before)


@contextmanager
def explain_resume(command: str, folder: Path) -> Iterator[None]:
    """With something in `folder` to go on with, a Ctrl-C that Tune did not take says how, as does a full disk."""
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
    """Whether this, or what it is wrapped around, is a disk without space; SQLite says so in words."""
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC or "disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def ignore_interrupts() -> None:
    """From here on this process only cleans up, and no Ctrl-C may tear that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
