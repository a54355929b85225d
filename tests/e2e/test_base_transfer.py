"""A base's folder, copied to a machine that lacks it; between two machines: `tests/cluster/test_own_machines.py`."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray

from tests.support import gguf_kit
from tests.support.driving import contents
from trainables.models.loading import BUILTIN, UnknownBase, check_base, model_folder, pin
from trainables.runtime import base_transfer
from trainables.runtime.base_transfer import COPY_MARKER, copy, fetch_base, serve_bases

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def origin(tmp_path):
    """A folder with a file in a folder and one of several readings."""
    folder = tmp_path / "merged"
    shutil.copytree(BUILTIN["tiny"], folder)
    (folder / "more").mkdir()
    (folder / "more/large.bin").write_bytes(os.urandom(base_transfer.CHUNK_BYTES + 10))
    return folder


def test_a_copy_is_the_folder_and_is_kept_up_to_date(origin, tmp_path):
    target = tmp_path / "elsewhere/merged"
    with serve_bases([f"{origin}:float32", "builtin:tiny"]):
        server = ray.get_actor(base_transfer.SERVER)
        copy(server, str(origin), target)
        assert contents(target) == contents(origin) | {COPY_MARKER: b""}
        before = {path: path.stat().st_ino for path in target.rglob("*")}
        copy(server, str(origin), target)
        assert {path: path.stat().st_ino for path in target.rglob("*")} == before, "nothing was written again"
        (origin / "config.json").write_text("{}")
        (origin / "model.safetensors").rename(origin / "model-00001-of-00001.safetensors")
        copy(server, str(origin), target)
        assert contents(target) == contents(origin) | {COPY_MARKER: b""}, "and what is gone is gone"
        secret = origin.parent / "private/secret"
        secret.parent.mkdir()
        secret.write_text("x")
        (origin / "link").symlink_to(secret.parent)
        for folder, path in ((origin, f"../private/{secret.name}"), (origin, str(secret)), (origin, "link/secret"),
                             (secret.parent, "secret")):  # fmt: skip
            with pytest.raises(FileNotFoundError, match="is not served"):
                ray.get(server.read.remote(str(folder), path, 0))
        assert ray.get(server.files.remote(str(tmp_path))) == {}, "no folder but those of the bases"


def test_processes_that_start_at_once_and_one_that_was_killed(origin, tmp_path):
    """None of them sees a part of the folder: it is there when all of it is."""
    target, seen, over = tmp_path / "elsewhere/merged", set(), threading.Event()
    coming = tmp_path / "elsewhere/.merged.new"
    coming.mkdir(parents=True)
    (coming / "half.bin").write_bytes(b"half")  # of one that was killed

    def look():
        while not over.is_set():
            if target.is_dir():
                seen.add(tuple(sorted(contents(target))))

    with serve_bases([str(origin)]), ThreadPoolExecutor() as pool:
        watching = pool.submit(look)
        server = ray.get_actor(base_transfer.SERVER)
        list(pool.map(lambda _: copy(server, str(origin), target), range(3)))
        over.set()
        watching.result()
    assert seen <= {tuple(sorted(contents(origin) | {COPY_MARKER: b""}))}
    assert contents(target) == contents(origin) | {COPY_MARKER: b""}


def test_a_folder_of_the_machines_own_is_left_alone(origin, tmp_path):
    kept = contents(origin)
    with serve_bases([str(origin)]):
        assert fetch_base(str(origin)) == str(origin)
    assert contents(origin) == kept
    assert fetch_base("builtin:tiny") == "builtin:tiny"
    assert fetch_base("owner/on-the-hub:nf4") == "owner/on-the-hub:nf4"


def test_what_cannot_be_written_or_read_is_named(origin, tmp_path):
    (tmp_path / "file").touch()
    with serve_bases([str(origin)]):
        server = ray.get_actor(base_transfer.SERVER)
        with pytest.raises(OSError, match=r"/file cannot be written on this one \(File exists\); use a --storage-path"):
            copy(server, str(origin), tmp_path / "file/merged")
        ray.kill(server)
        with pytest.raises(OSError, match="merged of the driver's machine cannot be read there"):
            copy(server, str(origin), tmp_path / "merged-2")


def test_the_model_of_a_gguf_file_is_copied_from_cache_to_cache(tmp_path, monkeypatch, own_cache):
    """A machine that has neither the file nor the package gguf loads the driver's model."""
    path = gguf_kit.write(tmp_path / "mini.gguf", gguf_kit.model("llama"))
    base = pin(str(path))
    made = Path(model_folder(base))
    with serve_bases([f"{base}:float32"]):
        assert fetch_base(base) == base
        assert not (made / COPY_MARKER).exists(), "the driver's own"
        path.unlink()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        with pytest.raises(UnknownBase, match="there is no file"):
            check_base(base)
        assert fetch_base(base) == base
    copied = Path(model_folder(base))
    assert copied.is_relative_to(tmp_path / "elsewhere")
    assert contents(copied) == contents(made) | {COPY_MARKER: b""}
    check_base(base)
