"""Checkpoints of the search that nothing can want any more, and when they may be deleted.

A trial that may go on wants its latest checkpoint, from which it would, and its best one, whose adapter may become the
sweep's. Of the trials that have ended, only the best one wants a checkpoint: the best one, in case a better trial is
lost. With `Sweep.keep` all of them want their best and their latest, for `espalier clone`.

`--resume` goes on from the last snapshot on disk, which may name a checkpoint that nothing wants since. So a checkpoint
is deleted once a snapshot lies on disk that was made after nothing wanted the checkpoint any more. Tune's `num_to_keep`
deletes before it writes a snapshot: a driver that is killed in between cannot be resumed.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from ray.tune import Checkpoint

from sweeps.spec.sweep import Sweep

SMALL_SWEEP = 200  # trials up to which Tune writes a snapshot at every event
MIRROR_LAG_S = 60.0  # within which a mirror that has read a snapshot copies the checkpoints that it names


class Surplus:
    """The checkpoints of a sweep's trials that nothing wants any more, each with the time since when."""

    def __init__(self, keep: bool) -> None:
        self._keep = keep
        self._since: dict[str, dict[Path, float]] = {}  # by trial: its surplus folders

    def look(self, trial: Any, ended: bool, is_best: bool = False) -> None:
        """Find out which checkpoints of a trial nothing wants now. `is_best`: of all trials that have ended."""
        folders = sorted(Path(trial.storage.trial_fs_path).glob("checkpoint_*"))
        best, latest = _name(best_checkpoint(trial)), _name(trial.checkpoint)
        wanted = {best, latest} if self._keep or not ended else {best} if is_best else set()
        if not ended:  # later ones are being written
            wanted |= {folder.name for folder in folders if folder.name > latest}
        known = self._since.get(trial.trial_id, {})
        surplus = [folder for folder in folders if folder.name not in wanted]
        self._since[trial.trial_id] = {folder: known.get(folder, time.time()) for folder in surplus}

    def delete(self, snapshot_time: float) -> None:
        """Delete what nothing has wanted since before a snapshot on disk, which was made at that time."""
        for of_trial in self._since.values():
            for folder in [one for one, since in of_trial.items() if since < snapshot_time]:
                shutil.rmtree(folder, ignore_errors=True)
                del of_trial[folder]


def snapshot_every_s(sweep: Sweep) -> int:
    """Return the seconds between two snapshots; 0: Tune writes one after every event."""
    return 0 if sweep.num_samples <= SMALL_SWEEP else 10


def stays_s(sweep: Sweep, mirrored: bool) -> float:
    """Return how long a checkpoint stays when nothing wants it any more, in seconds."""
    return snapshot_every_s(sweep) + (MIRROR_LAG_S if mirrored else 0.0)


def best_checkpoint(trial: Any) -> Checkpoint | None:
    """Return the checkpoint of the best round, the first of equals as in `TrialHistory`. Tune would take the last."""
    results = trial.run_metadata.checkpoint_manager.best_checkpoint_results  # by score, equal ones by time
    return next((one.checkpoint for one in results if one.metrics["score"] == results[-1].metrics["score"]), None)


def _name(checkpoint: Checkpoint | None) -> str:
    """Return the name of a checkpoint's folder, which sorts by time; empty, which sorts first, for none."""
    return Path(checkpoint.path).name if checkpoint else ""
