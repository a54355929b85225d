"""How an error ends a command: the status of the policy, and one line on standard error."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from search_spaces.axis import SpaceError
from sweeps.cli.ending import SHOWN, end, one_line_errors
from sweeps.persistence.interrupt import heed_signals
from sweeps.spec.error_policy import Status, Stopped
from trainables.bad_input import BadInput

ROOT = Path(__file__).parents[3]


def ended_by(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as left, one_line_errors():
        raise error
    return left.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BadInput("--rounds 0", "is below 1", "give 1"), Status.BAD_INPUT, "--rounds 0 is below 1; give 1"),
        (SpaceError("axis 'r' is twice"), Status.BAD_INPUT, "axis 'r' is twice"),
        (Stopped("no space left in runs; free some, then: x.py --resume"), Status.STOPPED, "no space left in runs"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a"), 2, "runs/a: Permission denied; give one that"),
        (OSError(errno.EROFS, "Read-only file system", b"/x"), 2, "/x: Read-only file system; give one on a disk"),
        (ConnectionError("no answer\nfrom the server"), Status.BAD_INPUT, "no answer from the server"),
        (BadInput("a\nb\rc"), Status.BAD_INPUT, r"a\nb\rc"),
        (BadInput("\x1b[31mred"), Status.BAD_INPUT, r"\x1b[31mred"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_it_is_one_line(error: Exception, status: int, words: str, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["/x/arena.py"])
    code, said = ended_by(error, capsys)
    assert code == status
    (line,) = said.splitlines()
    assert line.startswith(f"arena.py: {words}")


def test_long_words_of_the_command_line_are_shortened_and_the_rest_is_not(capsys, monkeypatch) -> None:
    word = "x" * 10_000
    monkeypatch.setattr("sys.argv", ["arena.py", f"--name={word}"])
    remedy = "use letters " * 40
    _, said = ended_by(BadInput(f"--name {word} and {word!r} {remedy}".strip()), capsys)
    assert len(said) < len(remedy) + 3 * SHOWN
    assert remedy.strip() in said


def test_ctrl_c_has_the_status_of_the_signal(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["arena.py"])
    assert ended_by(KeyboardInterrupt(), capsys) == (Status.INTERRUPTED, "\narena.py: interrupted\n")


@pytest.mark.parametrize(
    ("error", "words"),
    [(BadInput("--rounds 0", "is below 1"), "--rounds 0 is below 1"), (KeyError("lost\nactor"), "KeyError: 'lost")],
    ids=["foreseen", "unforeseen"],
)
def test_after_a_signal_its_status_counts_whatever_it_broke(error, words, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["arena.py"])
    heed_signals()
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    status, said = ended_by(error, capsys)
    assert status == Status.TERMINATED
    (line,) = said.splitlines()
    assert line.startswith(f"arena.py: interrupted; {words}")


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(KeyError), one_line_errors():
        raise KeyError("ours")


def test_what_a_signal_leaves_has_its_status_but_for_ctrl_c() -> None:
    heed_signals()
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        end("left")
    assert left.value.code == Status.TERMINATED


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        ("failed", Status.NO),
        ("stopped", Status.STOPPED),
        ("interrupted", Status.INTERRUPTED),
        (Status.HUNG_UP, Status.HUNG_UP),
    ],
)
def test_how_a_sweep_ended_is_its_status(ended, status: Status) -> None:
    with pytest.raises(SystemExit) as left:
        end(ended)
    assert left.value.code == status


def test_a_sweep_that_is_done_ends_without() -> None:
    for ended in ("finished", "left", None):
        end(ended)  # type: ignore[arg-type]


@pytest.mark.parametrize("variable", ["TQDM_MININTERVAL=soon", "OMP_NUM_THREADS=0", "HF_HUB_ETAG_TIMEOUT=1.5"])
def test_a_variable_that_is_no_number_is_refused_before_a_library_reads_it(variable: str) -> None:
    """tqdm and huggingface_hub fail while they are imported, which sweep scripts do before their first statement."""
    name, _, value = variable.partition("=")
    script = [sys.executable, str(ROOT / "sweeps/arena.py"), "--help"]
    done = subprocess.run(script, env=os.environ | {name: value}, capture_output=True, text=True)
    assert done.returncode == Status.BAD_INPUT
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"arena.py: {variable} is no ")
