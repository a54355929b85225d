"""The process in which a user's score function runs: `user_function.py` starts it, asks, and ends it if it hangs.

It uses the standard library alone and never imports Espalier, so it starts in a moment. Whatever the function prints
goes to standard error. A call that takes too long is interrupted, so that the line where it hangs can be named.
"""

from __future__ import annotations

import numbers
import os
import signal
import sys
import types
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


class TooLong(BaseException):  # not an Exception, which a user's code may catch
    """The function has not returned within its time."""


def main(channel: Connection) -> None:
    _outlive_signals()
    file, name, source, seconds = channel.recv()
    os.dup2(2, 1)
    signal.signal(signal.SIGALRM, _interrupt)
    try:
        function = _attempt(lambda: _function(file, name, source), file, 6 * seconds)
    except ValueError as error:
        channel.send(error.args[0])
        return
    channel.send(None)
    while True:
        try:
            row, completion = channel.recv()
        except EOFError:  # whoever asked has ended
            return
        try:
            channel.send(_valid(_attempt(lambda: function(row, completion), file, seconds), name))  # noqa: B023
        except ValueError as error:
            channel.send(error.args[0])


def _outlive_signals() -> None:
    """Go on after a signal that is sent to all processes of a sweep: it is for the driver, which ends this one in time.

    The mask is that of a process of Ray; programs that the function starts obey SIGTERM again.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})


def _interrupt(number: int, frame: Any) -> None:
    raise TooLong


def _function(file: str, name: str, source: str) -> Any:
    """Run the file, and return its function. Raise ValueError if it has none of that name."""
    module = types.ModuleType(Path(file).stem)
    module.__file__ = file
    sys.modules.setdefault(module.__name__, module)
    sys.path.append(str(Path(file).parent))
    exec(compile(source, file, "exec"), vars(module))  # what the user asked for
    function = vars(module).get(name)
    if not callable(function):
        raise LookupError(f"it has no function {name!r}")
    return function


def _attempt(call: Any, file: str, seconds: float) -> Any:
    """Return what `call` returns. Raise ValueError that names the line of the user's file, for all that it raises."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        result = call()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return result
    except TooLong as error:
        raise ValueError(f"{_line(error, file)}: it takes longer than {seconds:g} s") from None
    except BaseException as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(f"{_line(error, file)}: {reason}") from None


def _line(error: BaseException, file: str) -> str:
    """Return the file's name and its last line that took part in an error."""
    found = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            found = trace.tb_lineno
        trace = trace.tb_next
    return f"{Path(file).name}, line {found}" if found else Path(file).name


def _valid(result: Any, name: str) -> float:
    if isinstance(result, numbers.Real) and 0 <= float(result) <= 1:
        return float(result)
    raise ValueError(f"{name} returned {str(result)[:40]!r} ({type(result).__name__}); return a number in [0, 1]")


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
