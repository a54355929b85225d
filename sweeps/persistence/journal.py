"""How SQLite keeps a database whole: by a write-ahead log on a disk of this machine, elsewhere by its rollback journal.

With the log a write waits for no disk, and readers and the writer do not wait for each other. Whatever was written
survives a process that is killed; what survives a loss of power is all up to some moment, at least up to the last
`move_journal`. The log needs memory that all processes share, which network disks do not have
(https://www.sqlite.org/wal.html), and two files beside the database while it is open, FILE-wal and FILE-shm.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Engine, event

LOCAL = {"apfs", "bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "hfs", "overlay", "tmpfs", "xfs", "zfs"}
READERS_WAIT_S = 1.0  # for those that still read when the log is ended


def file_system(path: Path) -> str:
    """Return the type of the file system that has a path, such as `ext4` or `nfs4`; empty if it is not known."""
    place = path.resolve()
    mounted = {Path(one.mountpoint): one.fstype for one in psutil.disk_partitions(all=True)}
    return next((mounted[folder] for folder in (place, *place.parents) if folder in mounted), "")


def use_journal(engine: Engine, file: Path) -> None:
    """Let the connections of an engine use the write-ahead log if the disk has what it needs."""
    if file_system(file) not in LOCAL:
        return

    @event.listens_for(engine, "connect")
    def use_log(connection: sqlite3.Connection, _: Any) -> None:
        with suppress(sqlite3.OperationalError):  # another program holds it just now, or the disk is full
            if connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",):
                connection.execute("PRAGMA synchronous = NORMAL")

    engine.dispose()  # connections from before


def move_journal(engine: Engine) -> None:
    """Move what the log has into the database, and let the disk store it. Without a log there is nothing to do."""
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")


def end_journal(file: Path) -> None:
    """Leave the database as one file, which can be copied and read where nothing can be written; with its log, if
    another program has it open."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file, timeout=READERS_WAIT_S)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
