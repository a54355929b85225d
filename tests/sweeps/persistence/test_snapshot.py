"""`--resume` continues from the newest complete snapshot, whatever Tune left, and drops the error that ended it."""

from __future__ import annotations

from types import SimpleNamespace

from ray.tune.experiment import Experiment
from ray.tune.search import ConcurrencyLimiter, SearchGenerator

from sweeps.persistence.snapshot import Snapshot
from tests.support.same_searcher import Same
from trainables.runtime.trial import Trial


def test_a_torn_snapshot_is_replaced_by_the_last_whole_one(tmp_path):
    staging, folder = tmp_path / "staging", tmp_path / "tune"
    staging.mkdir()
    folder.mkdir()
    trial = SimpleNamespace(storage=SimpleNamespace(experiment_driver_staging_path=str(staging)))
    snapshot = Snapshot(tmp_path / "snapshot.zip")
    snapshot.on_step_end(0, [])
    assert not snapshot.restore(folder), "killed before the first one: there is nothing to go on from"

    (staging / "experiment_state-1.json").write_text("first")
    snapshot.on_step_end(1, [trial])
    (staging / "experiment_state-1.json").write_text('{"runner_data": {"_stopper": "that has stopped", "n": 2}}')
    (staging / "searcher-state-1.pkl").write_text("searcher")
    snapshot.on_step_end(2, [trial])
    (staging / "searcher-state-1.pkl").write_text("half-wri")  # killed here: no step has ended since

    (folder / "experiment_state-1.json").write_text("sec")
    (folder / "experiment_state-2.json").write_text("")
    (folder / "trial").mkdir()
    assert Snapshot(tmp_path / "snapshot.zip").restore(folder)
    left = {file.name: file.read_text() for file in folder.glob("*.*")}
    assert left == {"experiment_state-1.json": '{"runner_data": {"n": 2}}', "searcher-state-1.pkl": "searcher"}
    assert (folder / "trial").is_dir()


def test_as_many_trials_at_once_as_a_resumed_sweep_may_have(tmp_path):
    def at_once(many):
        return SearchGenerator(ConcurrencyLimiter(Same(metric="score", mode="max"), many))

    folder = tmp_path / "tune"
    folder.mkdir()
    before = at_once(8)
    before.add_configurations([Experiment("tune", Trial, storage_path=str(tmp_path), num_samples=20)])
    assert sum(before.next_trial() is not None for _ in range(20)) == 8
    before.save_to_dir(str(folder), "1")
    trial = SimpleNamespace(storage=SimpleNamespace(experiment_driver_staging_path=str(folder)))
    snapshot = Snapshot(tmp_path / "snapshot.zip")
    snapshot.on_step_end(0, [trial])
    assert snapshot.restore(folder)

    now = at_once(2)
    now.restore_from_dir(str(folder))
    for trial_id in list(now.searcher.live_trials):
        now.on_trial_complete(trial_id)
    assert sum(now.next_trial() is not None for _ in range(20)) == 2
