"""Files on disk when a driver dies in between: none claims a result that is not there."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune import Checkpoint

from sweeps.results.confirmation import Confirmation
from sweeps.results.records import Final, TrialRecord
from sweeps.results.tables import FINALISTS
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.recorder import Recorder
from tests.support.knobs import ONE
from trainables.core import Example
from trainables.runtime.trial import ADAPTER_FOLDER

RECORD = TrialRecord("t0", 0, TrialParams("knob", {}), "finished", TrialHistory(({"round": 1, "score": 0.9},)), 1)


def test_finalists_are_written_once_the_winners_weights_are_there(tmp_path):
    recorder = Recorder(tmp_path, ONE, {})
    recorder.records = {"t0": RECORD}
    known = Confirmation([Final("trial 0", 0.9, np.ones((3, 1)), "t0", 1)], trivial={"chance": 0.0})
    asked = [Example("?", "a", "kind", "key")]
    trained = tmp_path / "checkpoint"
    trained.mkdir()
    checkpoints = {"t0": Checkpoint.from_directory(trained)}
    with pytest.raises(OSError, match=ADAPTER_FOLDER):
        recorder.confirm(known, checkpoints, asked)
    assert not (tmp_path / FINALISTS).exists(), "where it lies, --resume takes what best/ holds for the winner's"

    (trained / ADAPTER_FOLDER).mkdir()
    (trained / ADAPTER_FOLDER / "weights").write_text("of the winner")
    recorder.confirm(known, checkpoints, asked)
    assert (tmp_path / FINALISTS).is_file()
    assert (tmp_path / "best/weights").read_text() == "of the winner"


def with_checkpoints(root, trial_id, rounds=6):
    """A trial of Tune's that has ended, with a checkpoint after each round."""
    for number in range(6):
        (root / f"{trial_id}/checkpoint_{number:06d}" / ADAPTER_FOLDER).mkdir(parents=True)
    scores = {0: 0.2, 3: 0.4, 1: 0.9, 2: 0.9}  # in Tune's order: by score, equal ones by time
    results = [
        SimpleNamespace(checkpoint=Checkpoint(str(root / f"{trial_id}/checkpoint_{i:06d}")), metrics={"score": score})
        for i, score in scores.items()
    ]
    manager = SimpleNamespace(best_checkpoint_results=results)
    return SimpleNamespace(
        trial_id=trial_id,
        status="TERMINATED",
        last_result={"done": True, "training_iteration": rounds},
        run_metadata=SimpleNamespace(checkpoint_manager=manager),
        storage=SimpleNamespace(trial_fs_path=str(root / trial_id)),
    )


@pytest.mark.parametrize("keep", [False, True])
def test_what_nothing_can_want_any_more_is_deleted(tmp_path, keep):
    """Of two trials that were pruned, one is the best so far; a third has finished, and a fourth failed."""
    recorder = Recorder(tmp_path, replace(ONE, keep=keep), {})
    rows = {"t0": (0.9, 2), "t1": (0.3, 2), "t2": (0.5, ONE.rounds), "t3": (0.4, 2)}
    trials = {name: with_checkpoints(tmp_path, name, rounds) for name, (_, rounds) in rows.items()}
    for number, (name, (score, _)) in enumerate(rows.items()):
        history = TrialHistory(({"round": 1, "score": score},))
        recorder.records[name] = TrialRecord(name, number, TrialParams("knob", {}), "running", history)
    for name, trial in trials.items():
        end = recorder.on_trial_error if name == "t3" else recorder.on_trial_complete
        end(0, [*trials.values()], trial)
    recorder.tidy_ended()
    left = {name: len([*(tmp_path / name).iterdir()]) for name in trials}
    assert left == ({"t0": 2, "t1": 2, "t2": 2, "t3": 2} if keep else {"t0": 2, "t1": 0, "t2": 2, "t3": 0})


def test_a_trial_that_has_ended_keeps_what_an_older_snapshot_may_name(tmp_path):
    """A large sweep's newest snapshot is seconds old, and after a kill --resume goes on from what it names."""
    trial = with_checkpoints(tmp_path, "t0")

    def left():
        return sorted(int(folder.name[-1]) for folder in (tmp_path / "t0").iterdir())

    recorder = Recorder(tmp_path, ONE, {})
    recorder.records = {"t0": RECORD}
    recorder.on_trial_complete(0, [trial], trial)
    recorder.on_step_end(0, [trial])
    assert left() == [0, 1, 2, 3, 4, 5]
    recorder.tidy_ended()
    assert left() == [1, 5], "the best, the first of equals, and the last"
    (tmp_path / "t0/checkpoint_000001" / ADAPTER_FOLDER / "weights").write_text("of round 2")
    recorder.keep_best([trial])
    assert (tmp_path / "best/weights").read_text() == "of round 2", "to which a reproduction trains"
