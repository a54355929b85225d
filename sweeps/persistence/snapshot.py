"""Tune's state on disk, whole at every moment: what `--resume` goes on from.

Tune copies the several files of its snapshot one by one, in place and in the background. A driver killed meanwhile
leaves a torn one, of which Tune says "Failed to restore" in its log only, and starts the whole sweep anew (read in
`experiment_state.py` of 2.60, and seen).

The names of its files and what stands in them are private to Ray: tests/e2e/test_private_names.py checks them, and
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
STATE = ("*.json", "*.pkl")  # what Tune's own `sync_down_experiment_state` takes for its snapshot


class Snapshot(Callback):
    """Keeps the newest complete snapshot in one file, replaced in one rename, after every step that wrote one."""

    def __init__(self, file: Path) -> None:
        self.file, self._seen = file, 0

    def on_step_end(self, iteration, trials, **info) -> None:
        self._keep(trials)

    def on_experiment_end(self, trials, **info) -> None:
        self._keep(trials)

    def restore(self, folder: Path) -> bool:
        """Put the snapshot where Tune reads it, in place of what it left. False if there was none yet."""
        if not self.file.is_file():
            return False
        for left in _state_files(folder):
            left.unlink()
        with zipfile.ZipFile(self.file) as whole:
            whole.extractall(folder)
        for file in folder.glob("search_gen_state-*.json"):
            _moved(file)
        for file in folder.glob("experiment_state-*.json"):
            _freed(file)
        return True

    def _keep(self, trials: list[Any]) -> None:
        """Between two steps nobody writes into the folder where Tune prepares its snapshots."""
        files = _state_files(Path(trials[0].storage.experiment_driver_staging_path)) if trials else []
        newest = max((file.stat().st_mtime_ns for file in files), default=0)
        if newest == self._seen:
            return
        with replacing(self.file) as fresh, zipfile.ZipFile(fresh, "w") as whole:
            for file in files:
                whole.write(file, file.name)
        self._seen = newest


def _moved(file: Path) -> None:
    """New trials go where the sweep is now: Tune's restore moves those that it has, and lets others go where it was.

    And there may be new ones, although a cost has told the searcher that there are none; as many at once as there are
    seats now, of which there may be fewer.
    """
    state = cloudpickle.loads(file.read_bytes())
    state["finished"] = False
    state.get("name:ConcurrencyLimiter", {}).pop("max_concurrent", None)
    state["experiment"].spec["storage"].storage_fs_path = file.parent.parent.resolve().as_posix()
    file.write_bytes(cloudpickle.dumps(state))


def _freed(file: Path) -> None:
    """Of the old stopper, which Tune would go on to ask: it looks for `espalier stop` where the sweep was."""
    state = json.loads(file.read_text())
    del state["runner_data"]["_stopper"]
    file.write_text(json.dumps(state))


def _state_files(folder: Path) -> list[Path]:
    return [file for pattern in STATE for file in folder.glob(pattern) if not file.name.startswith(".")]
