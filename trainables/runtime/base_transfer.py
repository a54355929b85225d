"""Copy bases that are folders on the driver's machine to the machines of a cluster that lack them.

A chain's winner, merged into its base, is such a folder. Its copy has the same path, so that an adapter names its base
in the same way wherever it was trained. A machine's own folder, or one on a shared disk, is not replaced.
The model of a GGUF file is copied from the driver's cache into the cache of the other machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray
from filelock import FileLock
from ray.exceptions import RayError

from trainables.atomic import replacing_folder
from trainables.models.gguf import entry_folder, is_gguf
from trainables.models.loading import BaseName, model_folder

SERVER = "bases"  # the actor's name, in the driver's own namespace
COPY_MARKER = ".copied-from-driver"  # a file in every copy
CHUNK_BYTES = 2**26  # bytes


class FileStamp(NamedTuple):
    """Size and time of a file, by which rsync, too, finds out whether it has changed."""

    size: int  # bytes
    time: int  # seconds


class BaseServer:
    """An actor on the driver's machine that reads these folders, and no others, for other machines."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders = {*folders}

    def files(self, folder: str) -> dict[str, FileStamp]:
        """Return the stamps of all files, by path below the folder; none for a folder that is not served."""
        return _files(Path(folder)) if folder in self._folders else {}

    def folder_named(self, name: str) -> str:
        """Return the served folder whose last part is this name; an empty string if there is none."""
        return next((folder for folder in self._folders if Path(folder).name == name), "")

    def read(self, folder: str, path: str, start: int) -> bytes:
        """Read at most `CHUNK_BYTES` of a file. Raise FileNotFoundError for one outside the served folders."""
        whole, wanted = Path(folder).resolve(), Path(folder) / path
        if folder not in self._folders or not wanted.parent.resolve().is_relative_to(whole):  # files may be links
            raise FileNotFoundError(f"{wanted} is not served")
        with wanted.open("rb") as file:
            file.seek(start)
            return file.read(CHUNK_BYTES)


@contextmanager
def serve_bases(bases: Iterable[str]) -> Iterator[None]:
    """In this context, other machines can fetch those of the bases that are folders on this one."""
    folders = {model_folder(base) for base in bases if is_gguf(base) or not base.startswith("builtin:")}
    here = {f"node:{ray.util.get_node_ip_address()}": 0.0001}
    actor = ray.remote(BaseServer).options(name=SERVER, num_cpus=0, resources=here, max_restarts=-1, max_task_retries=3)
    server: Any = actor.remote(there) if (there := [folder for folder in folders if Path(folder).is_dir()]) else None
    try:
        yield
    finally:
        if server:
            ray.kill(server)


def fetch_base(base: str) -> str:
    """Copy a base's files to this machine if the driver serves them; return its name. Raise OSError.

    The model of a GGUF file is copied from the driver's cache into this machine's.
    """
    name = BaseName.parse(base)
    if name.gguf and not name.sha256:  # no sweep pinned it: this machine uses a file of its own
        return base
    folder = entry_folder(name.sha256) if name.gguf else Path(name.source)
    if (folder.is_dir() and not (folder / COPY_MARKER).is_file()) or not ray.is_initialized():
        return base
    try:
        server = ray.get_actor(SERVER)
    except ValueError:  # nothing is served
        return base
    there: Any = ray.get(server.folder_named.remote(folder.name)) if name.gguf else str(folder)
    copy(server, there, folder)
    return base


def copy(server: Any, origin: str, target: Path) -> None:
    """Replace the folder `target` by a copy of the served folder `origin`. Other processes that copy it wait.

    Raise OSError, with the remedy, if it cannot be read there or written here.
    """
    try:
        files: Mapping[str, FileStamp] = ray.get(server.files.remote(origin))
        if not files:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            if _files(target) == files and (target / COPY_MARKER).is_file():
                return
            with replacing_folder(target) as fresh:
                for path, file in files.items():
                    _write(fresh / path, file, partial(server.read.remote, origin, path))
                (fresh / COPY_MARKER).touch()
    except RayError as error:
        raise OSError(f"{origin} of the driver's machine cannot be read there: {error}") from error
    except OSError as error:
        raise OSError(
            f"{origin} lies on the driver's machine, and {error.filename or target} cannot be written on this one"
            f" ({error.strerror or error}); use a --storage-path that all machines can write, with room for a base"
        ) from error


def _write(target: Path, file: FileStamp, read: Callable[[int], Any]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as written:
        while some := ray.get(read(written.tell())):
            written.write(some)
    os.utime(target, (file.time, file.time))


def _files(folder: Path) -> dict[str, FileStamp]:
    """Return the stamps of all files, by path below the folder."""
    stats = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: FileStamp(own.st_size, int(own.st_mtime)) for path, own in stats.items() if path != COPY_MARKER}
