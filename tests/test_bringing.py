"""A base's folder, copied to a machine that lacks it; between two machines: `tests/cluster/test_own_machines.py`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import ray

from trainables import bringing
from trainables.bases import BUILTIN
from trainables.bringing import COPY, brought, copy, offered

pytestmark = pytest.mark.usefixtures("ray_session")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def origin(tmp_path):
    """A folder with a file in a folder and one of several readings."""
    folder = tmp_path / "merged"
    shutil.copytree(BUILTIN["tiny"], folder)
    (folder / "more").mkdir()
    (folder / "more/large.bin").write_bytes(os.urandom(bringing.AT_ONCE + 10))
    return folder


def test_a_copy_is_the_folder_and_is_kept_up_to_date(origin, tmp_path):
    target = tmp_path / "elsewhere/merged"
    with offered([f"{origin}:float32", "builtin:tiny"]):
        shelf = ray.get_actor(bringing.SHELF)
        copy(shelf, str(origin), target)
        assert contents(target) == contents(origin) | {COPY: b""}
        before = {path: path.stat().st_ino for path in target.rglob("*")}
        copy(shelf, str(origin), target)
        assert {path: path.stat().st_ino for path in target.rglob("*")} == before, "nothing was written again"
        (origin / "config.json").write_text("{}")
        copy(shelf, str(origin), target)
        assert contents(target) == contents(origin) | {COPY: b""}
        with pytest.raises(FileNotFoundError):
            ray.get(shelf.read.remote(str(origin), "../secret", 0))
        assert ray.get(shelf.files.remote(str(tmp_path))) == {}, "no folder but those of the bases"


def test_a_folder_of_the_machines_own_is_left_alone(origin, tmp_path):
    kept = contents(origin)
    with offered([str(origin)]):
        assert brought(str(origin)) == str(origin)
    assert contents(origin) == kept
    assert brought("builtin:tiny") == "builtin:tiny"
    assert brought("owner/on-the-hub:nf4") == "owner/on-the-hub:nf4"


def test_a_place_that_cannot_be_written_is_named(origin, tmp_path):
    (tmp_path / "file").touch()
    with offered([str(origin)]), pytest.raises(OSError, match=r"file/merged cannot be written .*use a --storage-path"):
        copy(ray.get_actor(bringing.SHELF), str(origin), tmp_path / "file/merged")
