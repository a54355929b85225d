"""A trial of Tune that has failed, without Tune."""

from __future__ import annotations

import pickle
from pathlib import Path


class FailedTrial:
    """The attributes of a Tune trial that the callback reads."""

    def __init__(self, folder: Path, trial_id: str, error: Exception):
        self.trial_id, self.pickled_error_file = trial_id, folder / f"{trial_id}.pkl"
        self.pickled_error_file.write_bytes(pickle.dumps(error))
