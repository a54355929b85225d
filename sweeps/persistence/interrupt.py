"""Signals and full disks: end a sweep with all work kept, and print the command that resumes it.

SIGTERM (`kill`, schedulers, containers) and SIGHUP (a terminal that closes) do what SIGINT (Ctrl-C) does.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from sweeps.results.run_folder import DATABASE, END_FILE
from sweeps.results.terminal import print
from sweeps.spec.error_policy import Stopped, os_error_line, rule_of
from trainables.atomic import replace_file
from trainables.bad_input import BadInput

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOTICES = ("stopping; everything done so far is kept", "still stopping; once more leaves at once, with what is on disk")
TOGETHER_S = 0.5  # `timeout` sends SIGTERM twice, and a shell and its terminal send SIGHUP: that is one
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "disk is full")
DISK_WAIT_S, PROBE_BYTES = 60, 2**20
LOCKED = "database is locked"
OTHERS = (
    *map(os.strerror, (errno.EROFS, errno.EFBIG, errno.EIO)),
    "readonly database",
    "unable to open database file",
    "disk I/O error",
)

_received: list[tuple[int, float]] = []  # signals that ask this process to end, and when they came


def heed_signals() -> None:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does, by a KeyboardInterrupt. Commands begin with this.

    A signal that is ignored stays so: SIGHUP under `nohup`.
    """
    _received.clear()
    for number in _heeded():
        if number != signal.SIGINT:  # Python itself raises a KeyboardInterrupt
            signal.signal(number, _interrupt)


def exit_status() -> int:
    """Return the status of a process that was asked to end: 128 and the number of the first signal, as of shells."""
    return 128 + (_received[0][0] if _received else signal.SIGINT)


def was_asked_to_end() -> bool:
    """Return whether a signal has asked this process to end."""
    return bool(_received)


def is_hurried() -> bool:
    """Return whether more than one signal has asked this process to end."""
    return len(_received) > 1


def _heeded() -> list[signal.Signals]:
    return [one for one in SIGNALS if one == signal.SIGINT or signal.getsignal(one) is not signal.SIG_IGN]


def _is_new(number: int) -> bool:
    """Note a signal. Return False if it is the second half of one that is sent twice."""
    now = time.monotonic()
    if number != signal.SIGINT and any(number == other and now - at < TOGETHER_S for other, at in _received):
        return False
    _received.append((number, now))
    return True


def _interrupt(number: int, _: Any) -> None:
    if _is_new(number):
        raise KeyboardInterrupt


@contextmanager
def graceful_interrupt() -> Iterator[Callable[[], bool]]:
    """Handle signals while Tune runs, and afterwards if one came. Yield a function that returns whether one did.

    The first one makes Tune stop and keep all work. Then a second SIGTERM or SIGHUP raises KeyboardInterrupt; a second
    Ctrl-C prints a notice, as people press it out of impatience, and the third raises it. Tune itself does not report
    an interrupt, and ignores one that comes after its last trial has ended.
    """
    before, pressed = {number: signal.getsignal(number) for number in _heeded()}, 0

    def press(number: int, _: Any) -> None:
        nonlocal pressed
        if not _is_new(number):
            return
        pressed += 1
        count = pressed  # the next signal may come before this function returns
        at_once = count > (len(NOTICES) if number == signal.SIGINT else 1)
        if at_once or signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
            raise KeyboardInterrupt
        with suppress(OSError):  # whoever read it is gone
            os.write(2, f"\n{NOTICES[count - 1]}\n".encode())  # the signal may have interrupted a `print`
        if count == 1:
            signal.raise_signal(signal.SIGUSR1)  # Tune handles it as Ctrl-C

    signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # until Tune installs its handler
    for number in before:
        signal.signal(number, press)
    try:
        yield lambda: pressed > 0
    finally:
        if not pressed:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def explain_resume(command: str, folder: Path) -> Iterator[None]:
    """Add the command that resumes the sweep to the error of a signal outside Tune, and to what the system refused.

    After them `end.yaml` says that the sweep was interrupted, unless this run has written its end. Raises Stopped, or
    BadInput if the folder is gone.
    """
    before = _written(folder / END_FILE)
    try:
        yield
    except KeyboardInterrupt:
        ignore_interrupts()
        with suppress(OSError):
            _keep_interruption(folder, before)
        raise KeyboardInterrupt(f"everything done so far is kept. Go on with:\n  {command}") from None
    except Exception as error:
        if (why := _why_stopped(error, folder)) is None:
            raise
        if not folder.is_dir():
            raise BadInput(folder, "was removed while the sweep ran", "start it again, without --resume") from error
        with suppress(OSError):
            _keep_interruption(folder, before)
        raise Stopped(f"{why}, then: {command}") from None


def _why_stopped(error: Exception, folder: Path) -> str | None:
    """Return what the system refused and what to do; None for an error of another kind."""
    forbidden = (f"{os.strerror(errno.EACCES)}: '{one}" for one in (folder, folder.resolve()))
    if (fault := disk_fault(error, forbidden)) is not None:
        return _in_words(fault, folder)
    return os_error_line(error) if isinstance(error, OSError) and rule_of(error) else None


def _keep_interruption(folder: Path, before: int | None) -> None:
    """Write that the sweep was interrupted, if `end.yaml` is not there or was written `before` this run."""
    if _written(file := folder / END_FILE) == before:
        known = yaml.safe_load(file.read_text()) if file.exists() else {}
        replace_file(file, yaml.safe_dump({**known, "interrupted": True}, sort_keys=False).encode())


def _written(file: Path) -> int | None:
    """Return when a file was written, in nanoseconds since 1970; None if it is not there."""
    return file.stat().st_mtime_ns if file.exists() else None


def disk_fault(error: BaseException | None, also: Iterable[str] = ()) -> str | None:
    """Return the system's words if this error, or one that caused it, says that a disk or a database of a sweep cannot
    be written to, or has the words of `also`; None for any other error. SQLite, Ray and Tune report that only in their
    message.
    """
    known = (*FULL, LOCKED, *OTHERS, *also)
    while error is not None:
        said = os.strerror(error.errno) if isinstance(error, OSError) and error.errno in DISK_FAULTS else str(error)
        for words in known:
            if words in said:
                return words
        error = error.__cause__ or error.__context__
    return None


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether this error, or one that caused it, is a full disk."""
    return disk_fault(error) in FULL


def wait_for_disk(folder: Path) -> bool:
    """Wait until a file can be written to the folder, with a line if it is not at once. Return False after a minute.

    Trials go on meanwhile, and their results wait.
    """
    for second in range(DISK_WAIT_S):
        try:
            replace_file(folder / ".probe", bytes(PROBE_BYTES))
            (folder / ".probe").unlink()
            return True
        except OSError as error:
            if second == 0:
                print(f"warning: cannot write to {folder}: {error.strerror}; waiting", file=sys.stderr, flush=True)
            time.sleep(1.0)
    return False


def _in_words(fault: str, folder: Path) -> str:
    if fault == LOCKED:
        return f"{folder / DATABASE} is locked by another program for more than a minute; end that one"
    if fault in FULL:
        where = folder
        with suppress(OSError):  # a folder that is gone, or no temporary folder that takes a file
            where = min((folder, Path(tempfile.gettempdir())), key=lambda one: shutil.disk_usage(one).free)
        return f"no space left in {where}; free some"
    return f"{folder} cannot be written to ({fault.partition(':')[0]}); mend that"


def ignore_interrupts() -> None:
    """Ignore signals that ask this process to end from now on: it only cleans up."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
