"""What programs answer to a task is searched for once, and again when the file is damaged or anything changes."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tests.support.program_grids import grid, task
from trainables.learners.arc import program_answers
from trainables.learners.arc.program_answers import PLANES, search_all, solved
from trainables.tasks.arc.programs.search import Limits
from trainables.tasks.arc.programs.solver import Solved, solve

FLIP = task(("12 30", "21 03"), ("45 60", "54 06"), tests=("78 90",))  # left and right change places


def plain(found: Solved) -> list:
    attempts = [[one.tolist() for one in grids] for grids in found.attempts]
    planes = [(one.names, one.cost, [each.tolist() for each in one.grids]) for one in found.planes]
    return [attempts, planes, found.names, found.grids_asked]


def test_it_is_searched_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = solved(FLIP, folder=tmp_path)
    assert first.attempts[0][0].tolist() == grid("87 09").tolist()
    assert plain(first) == plain(solve(FLIP, planes=PLANES))
    monkeypatch.setattr(program_answers, "solve", lambda *_: pytest.fail("it was searched for again"))
    again = solved(FLIP, folder=tmp_path)
    assert plain(again) == plain(first)
    assert {one.dtype for program in again.planes for one in program.grids} == {np.dtype("int8")}


def test_another_test_input_limit_or_program_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = task(("12 30", "21 03"), ("45 60", "54 06"), tests=("12 34",))
    for puzzle, limits in ((FLIP, None), (other, None), (FLIP, Limits(grids=500))):
        solved(puzzle, limits, tmp_path)
    assert len([*tmp_path.glob("*.json")]) == 3
    monkeypatch.setattr(program_answers, "_source", lambda: "a changed primitive")
    solved(FLIP, folder=tmp_path)
    assert len([*tmp_path.glob("*.json")]) == 4


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"attempts": 3}', b'{"names": []}'])
def test_a_damaged_file_is_made_again(tmp_path: Path, content: bytes) -> None:
    first = solved(FLIP, folder=tmp_path)
    [file] = tmp_path.glob("*.json")
    file.write_bytes(content)
    assert plain(solved(FLIP, folder=tmp_path)) == plain(first)
    assert file.read_bytes() != content


def test_a_cache_that_cannot_be_written_changes_no_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert plain(solved(FLIP, folder=tmp_path / "file" / "programs")) == plain(solve(FLIP, planes=PLANES))


def test_what_another_process_searches_for_is_left_to_it(tmp_path: Path) -> None:
    """Its lock is held until the other tasks are done; then its answer is read."""
    other = task(("12 30", "21 03"), ("45 60", "54 06"), tests=("12 34",))
    solved(FLIP, folder=tmp_path)
    [file] = tmp_path.glob("*.json")
    content = file.read_bytes()
    file.unlink()
    done = []

    def hold() -> None:
        with FileLock(f"{file}.lock"):
            held.set()
            for _ in range(600):
                done[:] = [one for one in tmp_path.glob("*.json") if one != file]
                if done:
                    break
                time.sleep(0.1)
            file.write_bytes(content)

    held = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    search_all([FLIP, other], folder=tmp_path)
    thread.join()
    assert len(done) == 1, "the second task was searched for while the first one's lock was held"
    assert len([*tmp_path.glob("*.json")]) == 2
