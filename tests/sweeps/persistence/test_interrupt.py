"""Ctrl-C before Tune listens and after: one line, and what there is to go on with."""

from __future__ import annotations

import errno
import shutil
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeps.cli.main import one_line_errors
from sweeps.persistence.interrupt import explain_resume, graceful_interrupt


@pytest.fixture(autouse=True)
def handlers():
    """Restore the signal handlers after each test."""
    numbers = (signal.SIGINT, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_while_tune_listens_the_first_ends_it_and_the_third_waits_for_nothing(capfd):
    heard = []
    with graceful_interrupt():
        signal.signal(signal.SIGUSR1, lambda *_: heard.append("stop"))
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert heard == ["stop"]
    assert "stopping; everything done so far is kept\n\nstill stopping" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):  # while the end is written, too
        signal.raise_signal(signal.SIGINT)


def test_two_at_once_end_it_too(monkeypatch):
    """The second comes while the first is being told of."""
    heard, written = [], []

    def impatient(number, text):
        written.append(text)
        if len(written) == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("os.write", impatient)
    with graceful_interrupt():
        signal.signal(signal.SIGUSR1, lambda *_: heard.append("stop"))
        signal.raise_signal(signal.SIGINT)
    assert (heard, len(written)) == (["stop"], 2)


def test_outside_tune_it_is_one_line_with_the_command_that_goes_on(capsys, tmp_path):
    with (
        pytest.raises(SystemExit) as end,
        one_line_errors(),
        explain_resume("x.py --resume", tmp_path),
        graceful_interrupt(),
    ):
        signal.raise_signal(signal.SIGINT)  # Tune has not begun, and would not hear of it
    assert end.value.code == 130
    said = capsys.readouterr().err
    assert said.endswith(": interrupted; everything done so far is kept. Go on with:\n  x.py --resume\n")
    signal.raise_signal(signal.SIGINT)  # what is cleaned up is not torn


def test_it_is_the_usual_one_again_when_nobody_pressed():
    with graceful_interrupt():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "full"), ValueError("database or disk is full")])
def test_a_full_disk_is_one_line_however_deep_it_is_wrapped(capsys, tmp_path, monkeypatch, fault):
    def wrapped():
        try:
            try:
                raise fault
            finally:
                raise KeyError("what cleaning up met then")
        except KeyError as error:
            raise RuntimeError("Tune's") from error

    free = {tmp_path: 0, Path(tempfile.gettempdir()): 10**9}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    with pytest.raises(SystemExit) as end, one_line_errors(), explain_resume("x.py --resume", tmp_path):
        wrapped()
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith(f": no space left in {tmp_path}; free some, then: x.py --resume\n")
    with pytest.raises(RuntimeError, match="of ours"), explain_resume("x.py --resume", tmp_path):
        raise RuntimeError("a fault of ours keeps its traceback")
