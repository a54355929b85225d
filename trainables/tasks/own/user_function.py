"""A user's own score function, `FILE.py:function`: it runs only if the command line named its file.

A run's folder is data, so a task that was made from one does not run the function that is written there. `trust_file`
says that it may. A task takes the source of a trusted file along to other processes and machines. The function runs in
a process of its own (`function_process.py`), which can be ended if it hangs.
"""

from __future__ import annotations

import atexit
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from trainables.bad_input import BadInput
from trainables.home import expanded

CALL = re.compile(r"(.+\.py):(\w+)")
ANSWERS_LATE_S = 5.0  # a function in compiled code is not interrupted, and its process is ended so much later
_trusted: dict[str, str] = {}  # file -> the source that may run


class ScoreError(BadInput):
    """A user's function failed; the message is one line with its file, its line and the row."""


class FunctionName(NamedTuple):
    """A function in a file."""

    file: str
    name: str

    @classmethod
    def of(cls, score: str) -> FunctionName | None:
        """Parse `FILE.py:function`, and make the path absolute; None for another rule."""
        found = CALL.fullmatch(score)
        return cls(_path(found[1]), found[2]) if found else None

    def source(self) -> str:
        """Return the source that runs, or else the file's, without running it. Raise ValueError if there is no file."""
        return _trusted[self.file] if self.file in _trusted else _read(self.file)

    def trusted_source(self) -> str:
        """Raise ScoreError if the command line has not named the file."""
        if self.file not in _trusted:
            raise ScoreError(f"the score is a function of {self.file}; if you trust that code, add --trust {self.file}")
        return _trusted[self.file]


def trust_file(file: str | Path, source: str | None = None) -> None:
    """Let the functions of a file run in this process. Its source is read now, unless it came along with a task.

    Raise ValueError if it cannot be read.
    """
    path = _path(file)
    _trusted[path] = _read(path) if source is None else source


def is_trusted(file: str | Path) -> bool:
    return _path(file) in _trusted


def carried(score: str) -> tuple[str, str] | None:
    """Return the file and source that a task takes along to another process; None if nothing is trusted."""
    name = FunctionName.of(score)
    return (name.file, _trusted[name.file]) if name and name.file in _trusted else None


def call(name: FunctionName, seconds: float, row: Mapping[str, Any], completion: str, place: str) -> float:
    """Return the function's score of a completion, in [0, 1]. Raise ScoreError for all that goes wrong."""
    process = _process(name, name.trusted_source(), seconds)
    answer = process.ask(dict(row), completion)
    if isinstance(answer, str):
        raise ScoreError(f"{answer} ({place})")
    return answer


def _path(file: str | Path) -> str:
    return str(expanded(file).resolve())


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"score names {file}, which cannot be read ({error}); give FILE.py:function") from error


@cache
def _process(name: FunctionName, source: str, seconds: float) -> _FunctionProcess:
    return _FunctionProcess(name, source, seconds)


class _FunctionProcess:
    """A process that is started with the first question, and again after it had to be ended."""

    def __init__(self, name: FunctionName, source: str, seconds: float) -> None:
        self._name, self._source, self._seconds = name, source, seconds
        self._lock = threading.Lock()
        self._channel: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self._end)

    def ask(self, row: Mapping[str, Any], completion: str) -> float | str:
        """Return the score, or a line that says what is wrong."""
        with self._lock:
            if self._channel is None and (fault := self._start()):
                self._end()
                return fault
            return self._answer((row, completion), self._seconds)

    def _start(self) -> str | None:
        ours, theirs = Pipe()
        script = str(Path(__file__).with_name("function_process.py"))
        command = [sys.executable, "-P", script, str(theirs.fileno())]  # -P: the script's neighbours are no modules
        # A session of its own: Ctrl-C is for the sweep.
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        self._channel = ours
        return self._answer((*self._name, self._source, self._seconds), 6 * self._seconds)

    def _answer(self, question: Any, seconds: float) -> Any:
        assert self._channel is not None
        file = Path(self._name.file).name
        try:
            self._channel.send(question)
            if self._channel.poll(seconds + ANSWERS_LATE_S):
                return self._channel.recv()
            fault = f"{file}: {self._name.name} takes longer than {seconds:g} s"
        except (EOFError, OSError):
            fault = f"{file}: {self._name.name} ended its process"
        self._end()
        return fault

    def _end(self) -> None:
        if self._process is not None and self._channel is not None:
            self._channel.close()
            self._process.kill()
            self._process.wait()
        self._process = self._channel = None
