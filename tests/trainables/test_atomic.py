"""Files and folders that are replaced as a whole, by a process that is killed at every moment in turn."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.tune import Checkpoint

from sweeps.results.run_folder import BEST
from sweeps.tuning.recorder import Recorder
from tests.support.knobs import ONE
from trainables.atomic import copy_folder, current_path, replace_file, replacing, replacing_folder
from trainables.runtime.trial import ADAPTER_FOLDER

KILLED, DONE = 9, 0
NAMES = ("adapter_config.json", "adapter_model.safetensors")


def killed_at(moment: int, work: Callable[[], object]) -> bool:
    """Whether another process that does `work` got as far as its `moment`-th call to the system, and ended there."""
    child = os.fork()
    if child == 0:
        left = moment

        def count(event: str, _: object) -> None:
            nonlocal left
            if event.startswith(("open", "os.", "shutil.", "ctypes.")):
                left -= 1
                if left < 0:
                    os._exit(KILLED)

        sys.addaudithook(count)
        work()
        os._exit(DONE)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_text(text)
    return folder


def texts(folder: Path) -> list[str]:
    return [(folder / name).read_text() for name in NAMES]


@pytest.fixture(params=["exchanged", "renamed"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A disk that can exchange two folders, and one that cannot."""
    if request.param == "renamed":
        monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # a C library without `renameat2`
    return request.param


def test_the_winners_folder_survives_a_kill_at_any_moment(tmp_path: Path, disk: str) -> None:
    recorder = Recorder(tmp_path, ONE, {})
    checkpoints = [
        Checkpoint(str(write(tmp_path / text / ADAPTER_FOLDER, text).parent)) for text in ("first", "second")
    ]
    recorder.keep_adapter(checkpoints[0])
    moment, kept, seen = 0, checkpoints[1], set[str]()
    while killed_at(moment, lambda: recorder.keep_adapter(kept)):
        found = texts(current_path(tmp_path / BEST))
        assert found in (["first"] * 2, ["second"] * 2), f"after {moment} calls"
        if disk == "exchanged":
            assert texts(tmp_path / BEST) == found, "under its own name"
        seen.add(found[0])
        moment += 1
    assert seen == {"first", "second"}
    assert texts(tmp_path / BEST) == ["second"] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "first", "second"], "nothing is left over"


def test_a_resumed_sweep_gives_the_winners_folder_its_name_back(tmp_path: Path) -> None:
    write(tmp_path / ".best.old", "first")
    Recorder(tmp_path, ONE, {})
    assert texts(tmp_path / BEST) == ["first"] * 2


def test_a_reader_finds_the_folder_at_every_moment(tmp_path: Path) -> None:
    target, over, faults = write(tmp_path / "best", "0"), threading.Event(), list[Exception]()

    def read() -> None:
        while not over.is_set():
            try:
                assert (target / NAMES[0]).read_text().isdigit()
            except Exception as error:
                faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        with replacing_folder(target) as fresh:
            write(fresh, str(number))
    over.set()
    reader.join()
    assert faults == []


def test_a_copy_is_of_one_moment(tmp_path: Path, disk: str) -> None:
    """The folder is replaced by another thread all the time."""
    target, over = write(tmp_path / "best", "0"), threading.Event()

    def replace_it() -> None:
        number = 0
        while not over.is_set():
            with replacing_folder(target) as fresh:
                write(fresh, str(number := number + 1))

    writer = threading.Thread(target=replace_it)
    writer.start()
    try:
        for number in range(100):
            copy_folder(target, tmp_path / str(number), NAMES[0])
            assert [path.name for path in (tmp_path / str(number)).iterdir()] == [NAMES[1]]
            copy_folder(target, tmp_path / f"whole-{number}")
            assert len({*texts(tmp_path / f"whole-{number}")}) == 1
    finally:
        over.set()
        writer.join()
    with pytest.raises(FileNotFoundError):
        copy_folder(tmp_path / "nowhere", tmp_path / "copy")
    with pytest.raises(FileExistsError):
        copy_folder(target, tmp_path / "0")
    assert (tmp_path / "0").is_dir(), "what was there is not ours to delete"


def test_what_fails_leaves_the_old_one(tmp_path: Path, disk: str) -> None:
    folder, file = write(tmp_path / "best", "old"), tmp_path / "file"
    file.write_text("old")
    with pytest.raises(FileExistsError), replacing_folder(folder) as fresh:
        write(fresh, "new").mkdir()
    with pytest.raises(UnicodeEncodeError), replacing(file) as fresh:
        fresh.write_text("new\udc80", encoding="utf-8")
    with pytest.raises(FileNotFoundError), replacing_folder(folder):
        pass  # nothing was made
    assert texts(folder) == ["old"] * 2
    assert file.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "file"]


def test_a_file_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    file, moment = tmp_path / "file", 0
    file.write_text("old")
    while killed_at(moment, lambda: replace_file(file, b"new")):
        assert file.read_text() in ("old", "new")
        moment += 1
    assert moment > 1
    assert file.read_text() == "new"


def test_a_folder_takes_the_place_of_none(tmp_path: Path, disk: str) -> None:
    with replacing_folder(tmp_path / "best") as fresh:
        write(fresh, "new")
    assert texts(tmp_path / "best") == ["new"] * 2
    shutil.rmtree(tmp_path / "best")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("name", "folder"),
    [("best/notes.txt", False), ("best/deep/notes", False), ("best/deep/notes", True), ("best", True)],
)
def test_a_link_is_not_followed_into_a_copy(tmp_path: Path, name: str, folder: bool) -> None:
    """A file or a folder elsewhere, which the folder of somebody else points to, is not part of what is copied."""
    secret = tmp_path / "home/token"
    secret.parent.mkdir()
    secret.write_text("hf_secret")
    if name != "best":
        (tmp_path / "best/deep").mkdir(parents=True)
        (tmp_path / "best/adapter_config.json").write_text("{}")
    (tmp_path / name).symlink_to(secret.parent if folder else secret)
    with pytest.raises(ValueError, match=rf"{name} is a symbolic link to .*; put the file itself there, or remove it"):
        copy_folder(tmp_path / "best", tmp_path / "copy")
    left = [path for path in (tmp_path / "copy").rglob("*") if path.is_file() and not path.is_symlink()]
    assert "hf_secret" not in [path.read_text() for path in left]
