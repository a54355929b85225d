"""What `--resume` goes on from: the newest snapshot that was whole, whatever Tune left, without what had ended it."""

from __future__ import annotations

from types import SimpleNamespace

from sweeps.engine.snapshot import Snapshot


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
