"""Signals before Tune listens and after: one line, and what there is to go on with."""

from __future__ import annotations

import errno
import shutil
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from sweeps.cli.ending import one_line_errors
from sweeps.persistence import interrupt
from sweeps.persistence.interrupt import exit_status, explain_resume, graceful_interrupt, heed_signals
from sweeps.results.run_folder import SWEEP_FILE, Run
from tests.support.facts_kit import least_facts
from trainables.atomic import replace_file


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


OTHERS = [(signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "status"), OTHERS)
def test_other_signals_end_it_as_ctrl_c_does_and_the_second_waits_for_nothing(capfd, monkeypatch, number, status):
    monkeypatch.setattr(interrupt, "TOGETHER_S", 0.0)
    heard = []
    heed_signals()
    with graceful_interrupt() as was_pressed:
        signal.signal(signal.SIGUSR1, lambda *_: heard.append("stop"))
        signal.raise_signal(number)
        assert (heard, was_pressed()) == (["stop"], True)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert capfd.readouterr().err == f"\n{interrupt.NOTICES[0]}\n"
    assert exit_status() == status


@pytest.mark.parametrize(("number", "status"), OTHERS)
def test_outside_tune_other_signals_have_their_own_status(capsys, tmp_path, number, status):
    heed_signals()
    with pytest.raises(SystemExit) as end, one_line_errors(), explain_resume("x.py --resume", tmp_path):
        signal.raise_signal(number)
    assert end.value.code == status
    assert capsys.readouterr().err.endswith("Go on with:\n  x.py --resume\n")
    assert Run.read(folder_of_a_sweep(tmp_path)).end == {"interrupted": True}
    signal.raise_signal(number)  # what is cleaned up is not torn


def folder_of_a_sweep(folder):
    replace_file(folder / SWEEP_FILE, yaml.safe_dump(least_facts()).encode())
    return folder


def test_a_signal_that_is_sent_twice_is_one():
    """`timeout` sends SIGTERM to its child and then to its group, in which the child is."""
    heard = []
    heed_signals()
    with graceful_interrupt():
        signal.signal(signal.SIGUSR1, lambda *_: heard.append("stop"))
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert heard == ["stop"]


def test_what_nohup_ignores_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    heed_signals()
    with graceful_interrupt() as was_pressed:
        signal.raise_signal(signal.SIGHUP)
    assert not was_pressed()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


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
    assert end.value.code == 3
    assert capsys.readouterr().err.endswith(f": no space left in {tmp_path}; free some, then: x.py --resume\n")
    with pytest.raises(RuntimeError, match="of ours"), explain_resume("x.py --resume", tmp_path):
        raise RuntimeError("a fault of ours keeps its traceback")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (OSError(errno.EROFS, "x"), "{} cannot be written to (Read-only file system); mend that, then: x"),
        (RuntimeError("sqlite3.OperationalError: disk I/O error"), "{} cannot be written to (disk I/O error); mend"),
        (RuntimeError("(sqlite3.OperationalError) database is locked"), "{}/optuna.db is locked by another program"),
        (OSError(errno.EDQUOT, "x"), "no space left in "),
    ],
)
def test_a_disk_that_cannot_be_written_to_is_one_line_and_resumable(capsys, tmp_path, fault, said):
    with pytest.raises(SystemExit) as end, one_line_errors(), explain_resume("x.py --resume", tmp_path):
        raise RuntimeError("Tune's") from fault
    assert end.value.code == 3
    assert said.format(tmp_path) in capsys.readouterr().err
    assert Run.read(folder_of_a_sweep(tmp_path)).end == {"interrupted": True}


def test_what_was_closed_meanwhile_is_one_line_with_the_command_that_goes_on(capsys, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    closed = PermissionError(errno.EACCES, "Permission denied", str(run / "leaderboard.md"))
    with pytest.raises(SystemExit) as end, one_line_errors(), explain_resume("x.py --resume", run):
        raise closed
    assert end.value.code == 3
    assert f"{run} cannot be written to (Permission denied); mend that, then: x.py" in capsys.readouterr().err
    elsewhere = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "data.csv"))
    with pytest.raises(SystemExit) as end, one_line_errors(), explain_resume("x.py --resume", run):
        raise elsewhere
    assert end.value.code == 3
    said = capsys.readouterr().err
    assert f"{elsewhere.filename}: Permission denied; give one that this user may use, or change" in said
    assert said.endswith(", then: x.py --resume\n")


def test_a_folder_that_was_removed_meanwhile_cannot_be_resumed(capsys, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(SystemExit) as end, one_line_errors(), explain_resume("x.py --resume", run):
        (run / "leaderboard.md").read_text()
    assert end.value.code == 2
    assert f"{run} was removed while the sweep ran; start it again, without" in capsys.readouterr().err


@pytest.mark.parametrize("written", [False, True])
def test_the_end_of_an_earlier_run_is_no_end_of_this_one(tmp_path, written):
    """A sweep that a time budget had ended is resumed and interrupted, before or after it has written its own end."""
    folder = folder_of_a_sweep(tmp_path)
    end = folder / "end.yaml"
    end.write_text("interrupted: false\nbaselines: {chance: 0.5}\n")

    def go_on() -> None:
        if written:
            replace_file(end, b"interrupted: false\nbaselines: {chance: 0.25}\n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), explain_resume("x.py --resume", folder):
        go_on()
    told = {"interrupted": not written, "baselines": {"chance": 0.25 if written else 0.5}}
    assert yaml.safe_load(end.read_text()) == told
