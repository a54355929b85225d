"""`--mirror URI`: a copy of the sweep's folder on other storage, from which `--resume` can continue on another machine.

The URI may name any file system that pyarrow supports: s3://bucket/runs, gs://, abfs://, hdfs://, or a folder. A thread
copies changes. It reads Optuna's database and Tune's snapshot first and writes them last, so that the copy never names
a checkpoint that it does not have.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType

from sweeps.persistence.lock import LOCK_FILE
from sweeps.persistence.snapshot import SNAPSHOT
from sweeps.results.run_folder import DATABASE, SWEEP_FILE
from sweeps.results.terminal import print
from sweeps.spec.addresses import check_no_secret
from trainables.bad_input import BadInput, one_line

EVERY_S = 10.0  # between two copies: a lost disk costs this much work, and the time of copying
WHOLE_AT_ONCE = {"s3", "gcs", "abfs"}  # stores that show a file only when it is complete
FAULTS = (OSError, ArrowException, sqlite3.Error)
DRIVER, HELD = "mirror.id", ".held-"  # the id of the driver that wrote last; prefix of a temporary folder
# Not copied: the lock, a database's journal (a copy of the database has what is in it), unfinished files, and how many
# events this machine's MLflow has received.
NOT_COPIED = re.compile(rf"{LOCK_FILE}|{DATABASE}-.*|.*\.new(/.*)?|\.best\.old/.*|mlflow/delivered|\.held-.*")


class Mirror:
    """A copy of `folder` at `uri`/<name of the folder>. Raises BadInput if the address cannot be used."""

    def __init__(self, uri: str, folder: Path) -> None:
        check_no_secret("--mirror", uri)
        self.uri, self.folder = uri, folder
        try:
            self._there, root = FileSystem.from_uri(uri)
        except (*FAULTS, ValueError) as error:
            raise BadInput(f"--mirror {uri}:", one_line(error), "give s3://BUCKET/FOLDER, or file:///FOLDER") from error
        self._root = f"{root.rstrip('/')}/{folder.name}"
        here, there = folder.resolve(), Path(self._root).resolve()
        if self._there.type_name == "local" and (here.is_relative_to(there) or there.is_relative_to(here)):
            raise BadInput(f"--mirror {uri}", f"is where {folder} is itself", "give another place")
        self._kept: dict[str, tuple[int, int]] = {}  # copied files -> size in bytes and time of change
        self._warned = False

    def exists(self) -> bool:
        """Return whether the mirror has a sweep of this name. Raises BadInput if it cannot be read."""
        with self._explained():
            return self._there.get_file_info(f"{self._root}/{SWEEP_FILE}").type == FileType.File

    def fetch(self) -> None:
        """Copy the mirror to the folder, which appears when the copy is complete."""
        incoming = self.folder.with_name(f".{self.folder.name}.incoming")
        shutil.rmtree(incoming, ignore_errors=True)
        with self._explained():
            for name in self._listed():
                target = incoming / name
                if not target.resolve().is_relative_to(incoming.resolve()):
                    raise BadInput(
                        f"--mirror {self.uri}",
                        f"has a file called {name!r}, which would be written outside {self.folder}",
                        "do not resume from it: somebody else may write there",
                    )
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._there.open_input_stream(f"{self._root}/{name}") as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
            incoming.rename(self.folder)

    def check_ours(self) -> None:
        """Raise BadInput if the mirror has files that are not this sweep's: `copy` would delete them.

        That is so if another driver has written there since, or if the files belong to no sweep.
        """
        own = self.folder / DRIVER
        with self._explained():
            if not self.exists():
                if others := [name for name in self._listed() if name != DRIVER]:
                    raise BadInput(
                        f"--mirror {self.uri}:",
                        f"{self._root} has files that are no sweep's, as {min(others)}",
                        "give another place",
                    )
            elif not own.is_file() or own.read_bytes() != self._driver():
                raise BadInput(
                    f"--mirror {self.uri}:",
                    f"another driver has gone on there since {self.folder} was written",
                    "move that folder away to go on from the mirror, or drop --mirror to go on from here",
                )

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Copy changes in a thread, and once more at the end. Raises BadInput if the first copy fails."""
        with self._explained():
            self._there.create_dir(self._root)
            (self.folder / DRIVER).write_text(uuid.uuid4().hex)
            self._kept = dict.fromkeys(self._listed(), (-1, -1))  # so that `copy` deletes what is not here
            self.copy()
        over = threading.Event()
        thread = threading.Thread(target=self._follow, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._try(last=True)

    def copy(self) -> None:
        """Copy what has changed since the last copy. Raises one of FAULTS."""
        # The snapshot first: a trial that only the database knows is run again; the opposite is not handled.
        stamps = self._files()  # taken first: a file that changes meanwhile is copied again next time
        new = [name for name in (SNAPSHOT, DATABASE) if name in stamps and stamps[name] != self._kept.get(name)]
        state = {name: _frozen(self.folder / name) for name in new}
        found = self._files()
        changed = [name for name in found.keys() - {SNAPSHOT, DATABASE} if found[name] != self._kept.get(name)]
        changed.sort(key=lambda name: (name not in (DRIVER, SWEEP_FILE), name))  # so that the owner is known first
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=HELD) as held:
            try:
                sources = {name: _held(self.folder / name, Path(held) / str(i)) for i, name in enumerate(changed)}
            except FileNotFoundError:  # deleted this very moment: copy next time
                return
            for name, source in sources.items():
                with source.open("rb") as file:
                    self._put(name, file)
                self._kept[name] = found[name]
        for name, content in state.items():
            self._put(name, io.BytesIO(content))
            self._kept[name] = stamps[name]
        for name in self._kept.keys() - found.keys():
            with contextlib.suppress(FileNotFoundError):
                self._there.delete_file(f"{self._root}/{name}")
            del self._kept[name]

    def _files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for folder, _, names in os.walk(self.folder):  # `os.walk` tolerates folders that vanish
            for path in (Path(folder) / name for name in names):
                name = path.relative_to(self.folder).as_posix()
                with contextlib.suppress(FileNotFoundError):
                    if not NOT_COPIED.fullmatch(name):
                        found[name] = (path.stat().st_size, path.stat().st_mtime_ns)
        with contextlib.suppress(FileNotFoundError, KeyError):  # what was written last waits in the log
            size, changed = found[DATABASE]
            log = (self.folder / f"{DATABASE}-wal").stat()
            found[DATABASE] = (size + log.st_size, max(changed, log.st_mtime_ns))
        return found

    def _listed(self) -> list[str]:
        """Return the names of all files in the mirror."""
        infos = self._there.get_file_info(FileSelector(self._root, recursive=True, allow_not_found=True))
        names = [info.path[len(self._root) + 1 :] for info in infos if info.type == FileType.File]
        return [name for name in names if not name.endswith(".part")]

    def _driver(self) -> bytes:
        with self._there.open_input_stream(f"{self._root}/{DRIVER}") as file:
            return file.read()

    def _put(self, name: str, file: BinaryIO) -> None:
        target = f"{self._root}/{name}"
        self._there.create_dir(target.rpartition("/")[0])
        part = target if self._there.type_name in WHOLE_AT_ONCE else f"{target}.part"
        with self._there.open_output_stream(part) as stream:
            shutil.copyfileobj(file, stream)
        if part != target:
            self._there.move(part, target)

    def _follow(self, over: threading.Event) -> None:
        while not over.wait(EVERY_S):
            self._try()

    def _try(self, last: bool = False) -> None:
        """Copy, and warn if that fails: once until it works again, and at the `last` copy in any case."""
        try:
            self.copy()
            self._warned = False
        except Exception as error:  # an unforeseen error would end the thread, and with it the mirror
            then = f"it lacks what {self.folder} has" if last else "trying again"
            if last or not self._warned:
                self._warned = True
                with contextlib.suppress(OSError, ValueError):  # standard error may be closed
                    print(f"warning: --mirror {self.uri}: {one_line(error)}; {then}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except FAULTS as error:
            raise BadInput(
                f"--mirror {self.uri}:", one_line(error), "check its address and your rights there"
            ) from error


def bring(uri: str, folder: Path) -> None:
    """Fetch the folder from its mirror unless it is here. Raises BadInput if it is in neither place."""
    mirror = Mirror(uri, folder)
    if (folder / SWEEP_FILE).is_file():
        mirror.check_ours()
        return
    if not mirror.exists():
        raise BadInput(
            "--resume:", f"there is no sweep in {folder}, nor in --mirror {uri}", "start it without --resume"
        )
    mirror.fetch()
    print(f"fetched {folder} from {uri}", flush=True)


def _held(file: Path, name: Path) -> Path:
    """Return a hard link to a file, which outlives its deletion; the file itself if the disk has no hard links."""
    try:
        os.link(file, name)
    except FileNotFoundError:
        raise
    except OSError:
        return file
    return name


def _frozen(file: Path) -> bytes:
    """Return the content of a file that is only ever replaced as a whole, or a consistent copy of a database."""
    if file.suffix != ".db":
        return file.read_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / file.name
        with contextlib.closing(sqlite3.connect(file)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        return copy.read_bytes()
