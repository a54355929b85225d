"""A snapshot of Tune's state that is complete at every moment, for `--resume`.

Tune copies the files of its own snapshot one by one, in place and in the background. A driver that is killed meanwhile
leaves a mixture. Tune then writes "Failed to restore" to its log only, and starts the whole sweep again
(`experiment_state.py` of Ray 2.60).

Tune unpickles these files, so a snapshot is signed (HMAC-SHA256) with a key of this user, and only a signed one is
restored. Whoever else can write to the folder cannot have code run by `--resume`.

The names and contents of these files are private to Ray: tests/e2e/test_private_names.py checks them, and
pyproject.toml caps the version.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.tune import Callback

from sweeps.persistence.interrupt import disk_fault
from sweeps.persistence.secret_key import secret_key
from sweeps.spec.open_run import check_no_links
from sweeps.spec.trust import FOLDER, folder_is_trusted
from trainables.atomic import replacing
from trainables.bad_input import BadInput, one_line

SNAPSHOT = "snapshot.zip"  # in a sweep's folder
KEY = "snapshot.key"  # in the user's configuration folder
STATE = (".json", ".pkl")  # the files that Tune's `sync_down_experiment_state` restores
PICKLE = ".pkl"  # Tune reads no other file with pickle


class Snapshot(Callback):
    """Keeps the newest complete snapshot in one file. It is replaced by a rename after each step that changed it.

    `then` is called after that, with the time (seconds since 1970) at which Tune wrote that state.
    """

    def __init__(self, file: Path, then: Callable[[float], None] = lambda written: None) -> None:
        self.file, self._then, self._seen = file, then, 0

    def on_step_end(self, iteration, trials, **info) -> None:
        """Keep it, or the next one if the disk does not take it now: the last one is complete until then."""
        try:
            self._keep(trials)
        except OSError as error:
            if disk_fault(error) is None:
                raise

    def on_experiment_end(self, trials, **info) -> None:
        self._keep(trials)

    def restore(self, folder: Path, num_samples: int | None = None) -> bool:
        """Put the snapshot where Tune reads it, in place of all that Tune could unpickle; return False without one.

        `num_samples`: how many trials there will be in all; None: as many as before.

        Raises BadInput for a snapshot that is damaged or that this user did not sign.
        """
        _remove_pickles(folder)
        if not self.file.is_file():
            return False
        for name, content in _verified(self.file).items():
            (folder / name).write_bytes(content)
        for file in folder.glob("search_gen_state-*.json"):
            _update_searcher(file, num_samples)
        for file in folder.glob("experiment_state-*.json"):
            _remove_stopper(file)
        return True

    def _keep(self, trials: list[Any]) -> None:
        """Copy Tune's snapshot if it is new. Between two steps Tune does not write into its staging folder."""
        files = _state_files(Path(trials[0].storage.experiment_driver_staging_path)) if trials else []
        newest = max((file.stat().st_mtime_ns for file in files), default=0)
        if newest == self._seen:
            return
        contents = {file.name: file.read_bytes() for file in files}
        with replacing(self.file) as fresh, zipfile.ZipFile(fresh, "w") as whole:
            for name, content in contents.items():
                whole.writestr(name, content)
            whole.comment = _signature(contents).encode()
        self._seen = newest
        self._then(newest / 1e9)


def check_resumable(folder: Path) -> None:
    """Raise BadInput unless this user signed the snapshot of a sweep's folder, or trusts the folder (`--trust folder`).

    A folder without a snapshot passes, as then nothing is unpickled. A link in the folder is refused in any case: files
    elsewhere would be changed.
    """
    check_no_links(folder)
    if (folder / SNAPSHOT).exists():
        _verified(folder / SNAPSHOT)


def _verified(file: Path) -> dict[str, bytes]:
    """Return the files of a snapshot by name. Raises BadInput if it is damaged, or neither signed nor trusted."""
    try:
        with zipfile.ZipFile(file) as whole:
            contents = {name: whole.read(name) for name in whole.namelist()}
            signature = whole.comment
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise BadInput(
            "--resume:", f"{file} is damaged ({one_line(error)})", "start a new sweep with --name"
        ) from error
    for name in contents:
        if Path(name).name != name or not name.endswith(STATE):
            raise BadInput("--resume:", f"{file} has a file {name!r}, which no snapshot has", "start a new sweep")
    if not folder_is_trusted() and not hmac.compare_digest(signature, _signature(contents).encode()):
        raise BadInput(
            "--resume:",
            f"{file} was not written by this user on this machine, and restoring it can run any code",
            f"if you trust its author, add --trust {FOLDER}",
        )
    return contents


def _signature(contents: Mapping[str, bytes]) -> str:
    """Return the HMAC-SHA256 of names and contents, in hexadecimal digits."""
    digest = hmac.new(secret_key(KEY), digestmod=hashlib.sha256)
    for name, content in sorted(contents.items()):
        for part in (name.encode(), content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _remove_pickles(folder: Path) -> None:
    """Delete what Tune would restore from its experiment's folder, and the pickles below it.

    Tune unpickles some of them when it restores a trial; it writes those that it needs again.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith(STATE if Path(place) == folder else PICKLE):
                (Path(place) / name).unlink()


def _update_searcher(file: Path, num_samples: int | None) -> None:
    """Adapt the saved state of Tune's search to this run.

    New trials are stored where the sweep's folder is now: Tune's restore changes only the paths of existing trials.
    New trials may start, even if a cost limit ended the search before. The limit of concurrent trials is this run's.
    """
    state = cloudpickle.loads(file.read_bytes())
    state["finished"] = False
    state.get("name:ConcurrencyLimiter", {}).pop("max_concurrent", None)
    if num_samples is not None:
        state["total_samples"] = state["experiment"].spec["num_samples"] = num_samples
    state["experiment"].spec["storage"].storage_fs_path = file.parent.parent.resolve().as_posix()
    file.write_bytes(cloudpickle.dumps(state))


def _remove_stopper(file: Path) -> None:
    """Remove the saved stopper. Tune would use it, and it looks for `espalier stop` where the folder was before.

    Beside the newest state lies that of the driver before, which has lost its stopper already.
    """
    state = json.loads(file.read_text())
    state["runner_data"].pop("_stopper", None)
    file.write_text(json.dumps(state))


def _state_files(folder: Path) -> list[Path]:
    """Look for them quickly, as this is done after every step of Tune."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as files:
        return [Path(file.path) for file in files if file.name.endswith(STATE) and not file.name.startswith(".")]
