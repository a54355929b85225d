"""Files on disk when a driver dies in between: none claims a result that is not there."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
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
from sweeps.tuning.surplus import best_checkpoint
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

    hashes = (tmp_path / "hashes.yaml").read_text()
    recorder.confirm(known, {}, asked)  # `espalier decide`, where states were too large to keep
    assert recorder.confirmation.finals, "they have scores all the same"
    assert (tmp_path / "best/weights").read_text() == "of the winner"
    assert (tmp_path / "hashes.yaml").read_text() == hashes


def with_checkpoints(root, trial_id, scores, status="RUNNING"):
    """A trial of Tune's with a checkpoint after each of the rounds that have these scores."""
    places = [root / f"{trial_id}/checkpoint_{number:06d}" for number in range(len(scores))]
    for place in places:
        (place / ADAPTER_FOLDER).mkdir(parents=True)
    ordered = sorted(range(len(scores)), key=lambda number: (scores[number], number))  # as in Tune
    results = [SimpleNamespace(checkpoint=Checkpoint(str(places[i])), metrics={"score": scores[i]}) for i in ordered]
    return SimpleNamespace(
        trial_id=trial_id,
        status=status,
        is_finished=lambda: status == "TERMINATED",
        checkpoint=Checkpoint(str(places[-1])),
        last_result={"done": True, "training_iteration": len(scores)},
        run_metadata=SimpleNamespace(checkpoint_manager=SimpleNamespace(best_checkpoint_results=results)),
        storage=SimpleNamespace(trial_fs_path=str(root / trial_id)),
    )


def left_of(root, *trial_ids):
    """The numbers of the checkpoints that are left of each trial."""
    return [sorted(int(folder.name[-1]) for folder in (root / trial_id).iterdir()) for trial_id in trial_ids]


def recorded(root, scores, status="running", keep=False):
    """A recorder that knows trials of these scores by round, and Tune's trials."""
    recorder = Recorder(root, replace(ONE, rounds=3, keep=keep), {})
    for number, (name, own) in enumerate(scores.items()):
        history = TrialHistory(tuple({"round": i, "score": score} for i, score in enumerate(own, 1)))
        recorder.records[name] = TrialRecord(name, number, TrialParams("knob", {}), status, history)
    return recorder, {name: with_checkpoints(root, name, own) for name, own in scores.items()}


LATER = math.inf  # a snapshot that was made after everything


@pytest.mark.parametrize("keep", [False, True])
def test_of_trials_that_have_ended_only_the_best_keeps_a_checkpoint(tmp_path, keep):
    """Of two that were pruned one is the best until a third finishes; a fourth fails, and a fifth goes on."""
    scores = {"t0": (0.4, 0.3), "t1": (0.3, 0.1), "t2": (0.2, 0.5, 0.4), "t3": (0.9,), "t4": (0.1, 0.7, 0.2, 0.3)}
    recorder, trials = recorded(tmp_path, scores, keep=keep)
    for name in ("t0", "t1"):
        recorder.on_trial_complete(0, [*trials.values()], trials[name])
    recorder.on_trial_save(0, [], trials["t4"])
    recorder.surplus.delete(LATER)
    assert left_of(tmp_path, "t0", "t1") == ([[0, 1], [0, 1]] if keep else [[0], []])
    assert left_of(tmp_path, "t4") == [[1, 3]], "its best, and the latest, from which it goes on"

    recorder.on_trial_complete(0, [*trials.values()], trials["t2"])
    recorder.on_trial_error(0, [*trials.values()], trials["t3"])
    recorder.surplus.delete(LATER)
    assert left_of(tmp_path, "t0", "t2", "t3") == ([[0, 1], [1, 2], [0]] if keep else [[], [1], []])


def test_what_a_snapshot_may_name_stays_until_there_is_a_later_one(tmp_path):
    """After a kill --resume goes on from what the snapshot on disk names."""
    recorder, trials = recorded(tmp_path, {"t0": (0.4, 0.3, 0.2), "t1": (0.5,)})
    before = time.time()
    recorder.on_trial_save(0, [], trials["t0"])
    recorder.surplus.delete(before)
    assert left_of(tmp_path, "t0") == [[0, 1, 2]]
    recorder.on_trial_complete(0, [*trials.values()], trials["t1"])
    recorder.on_trial_save(0, [], trials["t0"])
    recorder.surplus.delete(before)
    assert left_of(tmp_path, "t0", "t1") == [[0, 1, 2], [0]]
    recorder.surplus.delete(LATER)
    assert left_of(tmp_path, "t0", "t1") == [[0, 2], [0]]


def test_a_checkpoint_that_is_being_written_stays(tmp_path):
    recorder, trials = recorded(tmp_path, {"t0": (0.4, 0.3)})
    (tmp_path / "t0/checkpoint_000002").mkdir()
    recorder.on_trial_save(0, [], trials["t0"])
    recorder.surplus.delete(LATER)
    assert left_of(tmp_path, "t0") == [[0, 1, 2]]


def test_a_resumed_sweep_deletes_what_its_killed_driver_left(tmp_path):
    """Tune's snapshot has the second trial as paused, though it was pruned: it may still ask for its checkpoint."""
    scores = {"t0": (0.2, 0.3), "t1": (0.1,), "t2": (0.5, 0.4, 0.3)}
    recorder, _ = recorded(tmp_path, scores, status="pruned")
    trials = [with_checkpoints(tmp_path / "again", name, own, "TERMINATED") for name, own in scores.items()]
    trials[1].is_finished = lambda: False
    recorder.on_step_begin(0, trials)
    recorder.surplus.delete(LATER)
    assert left_of(tmp_path / "again", "t0", "t1", "t2") == [[], [0], [0]]


def test_the_best_adapter_is_that_of_the_first_of_equal_rounds(tmp_path):
    recorder, trials = recorded(tmp_path, {"t0": (0.2, 0.9, 0.9)})
    (tmp_path / "t0/checkpoint_000001" / ADAPTER_FOLDER / "weights").write_text("of round 2")
    recorder.on_trial_complete(0, [*trials.values()], trials["t0"])
    assert (tmp_path / "best/weights").read_text() == "of round 2", "to which a reproduction trains"


def test_when_the_leader_is_lost_the_best_that_has_ended_is_the_best_again(tmp_path):
    """The leader's adapter was in best/, and the checkpoint of the one before it is there to replace it."""
    recorder, trials = recorded(tmp_path, {"t0": (0.6,), "t1": (0.9, 0.0), "t2": (0.1,)})
    for name, trial in trials.items():
        (Path(best_checkpoint(trial).path) / ADAPTER_FOLDER / "weights").write_text(name)
    recorder.on_trial_complete(0, [*trials.values()], trials["t0"])
    recorder.surplus.delete(LATER)
    assert (tmp_path / "best/weights").read_text() == "t1"
    trials["t1"].last_result["diverged"] = True
    recorder.on_trial_complete(0, [*trials.values()], trials["t1"])
    assert (tmp_path / "best/weights").read_text() == "t0"


def test_what_went_wrong_in_learning_from_rewards_stands_beside_the_trial(tmp_path):
    """That of a trial that diverged later, too; not beside one that went well."""
    recorder = Recorder(tmp_path, ONE, {})
    for number, (entropy, status) in enumerate([(0.5, "finished"), (0.1, "finished"), (0.1, "diverged")]):
        rows = [{"round": i, "score": 0.3, "reward": 0.4, "entropy": entropy**i} for i in range(1, 4)]
        last = [{"round": 4, "score": 0.0, "reward": 0.4, "diverged": True}] * (status == "diverged")
        history = TrialHistory((*rows, *last))
        recorder.records[f"t{number}"] = TrialRecord(f"t{number}", number, TrialParams("knob", {}), status, history, 50)
    recorder.judge()
    recorder.write()
    said = "entropy collapsed from 0.1 to 0.001 nats per token"
    assert [one.notes for one in recorder.records.values()] == [(), (said,), (said,)]
    assert (tmp_path / "leaderboard.md").read_text().count(said) == 2
