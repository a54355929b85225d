"""Replace a file or a folder atomically: readers find the old or the new one, even if the writer is killed.

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
    """Give a path to write a file to, which replaces `path` at the end of the block.

    If the block raises or the disk is full, `path` is unchanged. Of several writers at once, the last one wins.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        yield fresh
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file by this content. Raise OSError, which leaves the old one."""
    with replacing(path) as fresh:
        fresh.write_bytes(content)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a path to make a folder at, which replaces the folder `path` at the end. If the block raises, `path` stays.

    Only one writer at a time is allowed; it also deletes the remains of a killed one. On a disk that cannot exchange
    two folders there is an instant without `path`, in which `current_path` gives the old folder.
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
    """Return the current place of the folder `path`: its name, or a name beside it if its writer was killed."""
    old = _aside(path)
    return old if old.is_dir() and not path.exists() else path


def copy_folder(path: Path, target: Path, *but: str) -> None:
    """Copy the folder `path` to a new `target`, without files of these names, consistently even if it is replaced.

    Raise OSError, which may leave a part of `target`, and ValueError if the folder is or holds a symbolic link: in a
    folder from somebody else, a link would put any file of this machine's user into the copy.
    """
    while True:
        target.mkdir()  # fails if it exists, so that only our own folder is deleted below
        source, before = current_path(path), None
        check_no_link(source)
        try:
            with _opened(source) as before:
                ignored = shutil.ignore_patterns(*but)
                shutil.copytree(source, target, symlinks=True, ignore=ignored, dirs_exist_ok=True)
                if _is_still(path, source, before):
                    return check_no_link(*(source / one.relative_to(target) for one in target.rglob("*")))
        except OSError:  # also `shutil.Error`
            if not current_path(path).exists() or (before and _is_still(path, source, before)):
                raise  # the folder was not replaced: the error has another cause
        shutil.rmtree(target)


def check_no_link(*paths: Path) -> None:
    """Raise ValueError for a symbolic link, naming it."""
    for link in (one for one in paths if one.is_symlink()):
        raise ValueError(f"{link} is a symbolic link to {os.readlink(link)}; put the file itself there, or remove it")


@contextmanager
def _opened(folder: Path) -> Iterator[os.stat_result]:
    """Hold a folder open, so that its inode number stays its own, and give its stat."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _is_still(path: Path, source: Path, before: os.stat_result) -> bool:
    return current_path(path) == source and source.exists() and os.path.samestat(before, source.stat())


def restore_folder(path: Path) -> None:
    """Give the folder `path` its name back if its writer was killed. For writers; readers use `current_path`."""
    if (left := current_path(path)) != path:
        left.rename(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders atomically; return False if this system or disk cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and not call(
        AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), ctypes.c_uint(RENAME_EXCHANGE)
    )
