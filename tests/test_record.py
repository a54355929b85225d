"""What is on disk when a driver dies in between: nothing that is claimed without being there."""

from __future__ import annotations

import numpy as np
import pytest
from ray.tune import Checkpoint

from sweeps.engine.record import Recorder
from sweeps.results.files import FINALISTS
from sweeps.results.finals import Final
from sweeps.results.leaderboard import TrialRecord
from tests.knobs import ONE
from trainables.core import Example
from trainables.trial import ADAPTER_FOLDER


def test_finalists_are_written_once_the_winners_weights_are_there(tmp_path):
    recorder = Recorder(tmp_path, ONE, {})
    recorder.records = {"t0": TrialRecord("t0", 0, "knob", {}, "finished", 1, 0.9, 0.9, 1, 0.0, [])}
    finals = [Final("trial 0", 0.9, np.ones((3, 1)), "t0", 1)]
    asked = [Example("?", "a", "kind", "key")]
    trained = tmp_path / "checkpoint"
    trained.mkdir()
    checkpoints = {"t0": Checkpoint.from_directory(trained)}
    with pytest.raises(OSError, match=ADAPTER_FOLDER):
        recorder.confirm(finals, checkpoints, asked, {"chance": 0.0})
    assert not (tmp_path / FINALISTS).exists(), "where it lies, --resume takes what best/ holds for the winner's"

    (trained / ADAPTER_FOLDER).mkdir()
    (trained / ADAPTER_FOLDER / "weights").write_text("of the winner")
    recorder.confirm(finals, checkpoints, asked, {"chance": 0.0})
    assert (tmp_path / FINALISTS).is_file()
    assert (tmp_path / "best/weights").read_text() == "of the winner"
