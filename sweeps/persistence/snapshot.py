"""A snapshot of Tune's state that is complete at every moment, for `--resume`.

Tune copies the files of its own snapshot one by one, in place and in the background. A driver that is killed meanwhile
leaves a mixture. Tune then writes "Failed to restore" to its log only, and starts the whole sweep again
(`experiment_state.py` of Ray 2.60).

The names and contents of these files are private to Ray: tests/e2e/test_private_names.py checks them, and
pyproject.toml caps the version.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.tune import Callback

from trainables.atomic import replacing

SNAPSHOT = "snapshot.zip"  # in a sweep's folder
STATE = ("*.json", "*.pkl")  # the files that Tune's `sync_down_experiment_state` restores


class Snapshot(Callback):
    """Keeps the newest complete snapshot in one file. It is replaced by a rename after each step that changed it."""

    def __init__(self, file: Path) -> None:
        self.file, self._seen = file, 0

    def on_step_end(self, iteration, trials, **info) -> None:
        self._keep(trials)

    def on_experiment_end(self, trials, **info) -> None:
        self._keep(trials)

    def restore(self, folder: Path) -> bool:
        """Put the snapshot where Tune reads it, in place of Tune's own. Return False if there is none."""
        if not self.file.is_file():
            return False
        for left in _state_files(folder):
            left.unlink()
        with zipfile.ZipFile(self.file) as whole:
            whole.extractall(folder)
        for file in folder.glob("search_gen_state-*.json"):
            _update_searcher(file)
        for file in folder.glob("experiment_state-*.json"):
            _remove_stopper(file)
        return True

    def _keep(self, trials: list[Any]) -> None:
        """Copy Tune's snapshot if it is new. Between two steps Tune does not write into its staging folder."""
        files = _state_files(Path(trials[0].storage.experiment_driver_staging_path)) if trials else []
        newest = max((file.stat().st_mtime_ns for file in files), default=0)
        if newest == self._seen:
            return
        with replacing(self.file) as fresh, zipfile.ZipFile(fresh, "w") as whole:
            for file in files:
                whole.write(file, file.name)
        self._seen = newest


def _update_searcher(file: Path) -> None:
    """Adapt the saved state of Tune's search to this run.

    New trials are stored where the sweep's folder is now: Tune's restore changes only the paths of existing trials.
    New trials may start, even if a cost limit ended the search before. The limit of concurrent trials is this run's.
    """
    state = cloudpickle.loads(file.read_bytes())
    state["finished"] = False
    state.get("name:ConcurrencyLimiter", {}).pop("max_concurrent", None)
    state["experiment"].spec["storage"].storage_fs_path = file.parent.parent.resolve().as_posix()
    file.write_bytes(cloudpickle.dumps(state))


def _remove_stopper(file: Path) -> None:
    """Remove the saved stopper. Tune would use it, and it looks for `espalier stop` where the folder was before."""
    state = json.loads(file.read_text())
    del state["runner_data"]["_stopper"]
    file.write_text(json.dumps(state))


def _state_files(folder: Path) -> list[Path]:
    return [file for pattern in STATE for file in folder.glob(pattern) if not file.name.startswith(".")]
