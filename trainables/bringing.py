"""Bases that are folders of the driver's machine, copied to those machines of a cluster that lack them.

A chain's winner, merged into its base, is such a folder. Its copy has the same path, so that an adapter names the base
it belongs to wherever it was trained. A folder that a machine has of its own, or sees on a common disk, is left alone.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray

from trainables.bases import BaseName

SHELF = "bases"  # the actor's name, in the driver's own namespace
COPY = ".copied-from-driver"  # a file in every copy
AT_ONCE = 2**26  # bytes


class File(NamedTuple):
    """What tells a file from a newer one, as rsync does."""

    size: int  # bytes
    time: int  # seconds


class Shelf:
    """Reads these folders, and no others, for processes of other machines."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders = {*folders}

    def files(self, folder: str) -> dict[str, File]:
        """By path below the folder; none for one that is not offered."""
        if folder not in self._folders:
            return {}
        paths = (path for path in Path(folder).rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): _file(path) for path in paths}

    def read(self, folder: str, path: str, start: int) -> bytes:
        """At most `AT_ONCE` bytes of a file that `files` told of."""
        if path not in self.files(folder):
            raise FileNotFoundError(f"{folder}/{path} is not offered")
        with (Path(folder) / path).open("rb") as file:
            file.seek(start)
            return file.read(AT_ONCE)


@contextmanager
def offered(bases: Iterable[str]) -> Iterator[None]:
    """Meanwhile other machines get from this one what of the bases is a folder here."""
    folders = {BaseName.parse(base).source for base in bases if not base.startswith("builtin:")}
    here = {f"node:{ray.util.get_node_ip_address()}": 0.0001}
    actor = ray.remote(Shelf).options(name=SHELF, num_cpus=0, resources=here, max_restarts=-1)
    shelf: Any = actor.remote(there) if (there := [folder for folder in folders if Path(folder).is_dir()]) else None
    yield
    if shelf:
        ray.kill(shelf)


def brought(base: str) -> str:
    """The base's name, now that its files are on this machine, if the driver offers them. Raises OSError."""
    folder = Path(BaseName.parse(base).source)
    if (folder.is_dir() and not (folder / COPY).is_file()) or not ray.is_initialized():
        return base
    try:
        shelf = ray.get_actor(SHELF)
    except ValueError:  # nothing is offered
        return base
    copy(shelf, str(folder), folder)
    return base


def copy(shelf: Any, origin: str, target: Path) -> None:
    """Make `target` the folder `origin` of a `Shelf`. Several processes may do so at once.

    Raises OSError, with the remedy, where nothing can be written.
    """
    files: Mapping[str, File] = ray.get(shelf.files.remote(origin))
    try:
        for path, file in files.items():
            there = target / path
            there.parent.mkdir(parents=True, exist_ok=True)
            (target / COPY).touch()
            if not there.is_file() or _file(there) != file:
                _write(there, file, partial(shelf.read.remote, origin, path))
    except OSError as error:
        raise type(error)(
            f"{origin} lies on the driver's machine, and {error.filename} cannot be written on this one"
            f" ({error.strerror}); use a --storage-path that all machines can write"
        ) from error


def _write(target: Path, file: File, read: Callable[[int], Any]) -> None:
    handle, part = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(handle, "wb") as written:
        while some := ray.get(read(written.tell())):
            written.write(some)
    os.utime(part, (file.time, file.time))
    os.replace(part, target)


def _file(path: Path) -> File:
    told = path.stat()
    return File(told.st_size, int(told.st_mtime))
