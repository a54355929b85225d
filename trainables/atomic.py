"""Replace a file or a folder as a whole: who reads it, and a writer that is killed, finds the old one or the new.

`os.replace` does that for a file. A folder that is not empty can only be exchanged with another, which Linux can and
Python does not offer (`renameat2`, https://man7.org/linux/man-pages/man2/rename.2.html).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's fcntl.h and fs.h


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write a file to, which takes the place of `path` at the end. Where the block raises, or the disk is
    full, `path` stays what it was. Several threads and processes may do so at once: the last one wins."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        yield fresh
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file as a whole. Raises OSError, which leaves the old one."""
    with replacing(path) as fresh:
        fresh.write_bytes(content)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A path to make a folder at, which takes the place of the folder `path` at the end. Where the block raises, `path`
    stays what it was.

    One writer at a time, which also deletes what an earlier one was killed over. On a disk that cannot exchange two
    folders there is an instant without `path`, and the old one is what `standing` says.
    """
    fresh, old = path.with_name(f".{path.name}.new"), _aside(path)
    restore_folder(path)
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        yield fresh
        if not path.exists():
            fresh.rename(path)
        elif not _exchanged(fresh, path):
            path.rename(old)
            fresh.rename(path)
    finally:
        restore_folder(path)
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)


def current_path(path: Path) -> Path:
    """Where the folder `path` is at this moment: under its name, or beside it, where its writer was killed."""
    old = _aside(path)
    return old if old.is_dir() and not path.exists() else path


def copy_folder(path: Path, target: Path, *but: str) -> None:
    """Copy the folder `path` as it is at one moment, though another takes its place meanwhile, to a new `target`,
    without files of these names. Raises OSError, and may leave a part of `target` then."""
    while True:
        target.mkdir()  # refuses one that is there: what is deleted below was made here
        source, before = current_path(path), None
        try:
            with _opened(source) as before:
                shutil.copytree(source, target, ignore=shutil.ignore_patterns(*but), dirs_exist_ok=True)
                if _is_still(path, source, before):
                    return
        except OSError:  # also `shutil.Error`
            if not current_path(path).exists() or (before and _is_still(path, source, before)):
                raise  # nobody has replaced it, so that is not why
        shutil.rmtree(target)


@contextmanager
def _opened(folder: Path) -> Iterator[os.stat_result]:
    """What tells a folder from every other: the system gives its number to no other one while it is open."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _is_still(path: Path, source: Path, before: os.stat_result) -> bool:
    return current_path(path) == source and source.exists() and os.path.samestat(before, source.stat())


def restore_folder(path: Path) -> None:
    """Give the folder `path` its name back where its writer was killed. For the next writer: a reader asks
    `standing`."""
    if (left := current_path(path)) != path:
        left.rename(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step. False where this system or this disk cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and not call(
        AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), ctypes.c_uint(RENAME_EXCHANGE)
    )
