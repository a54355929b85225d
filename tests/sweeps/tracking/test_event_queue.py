"""Whatever dies or hangs on the way to MLflow, events arrive, each once, and the sweep does not wait for them."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import threading

import pytest

from sweeps.tracking.event_queue import EventQueue
from tests.support.driving import wait_for
from tests.support.tracking_kit import FakeTrial, report, runs_of, shared_database, steps, track

os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "300"  # seconds; a busy machine's server is slow, not away


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    return shared_database(tmp_path_factory)


def test_a_killed_driver_goes_on_with_the_same_runs(database, tmp_path):
    first, trial = track(database, "resumed", tmp_path), FakeTrial("a")
    first.setup()
    first.on_trial_start(0, [], trial)
    report(first, trial, 1, 0.5)
    first.flush()
    report(first, trial, 2, 0.4)  # in the queue; the driver is killed before anything else happens
    assert first.close()
    with (tmp_path / "queue" / "events.jsonl").open("a") as file:
        file.write('{"trial": "a", "at": 17')  # half a line

    again = track(database, "resumed", tmp_path, params={"num_samples": 9})
    again.setup()
    again.on_trial_start(0, [], trial)
    report(again, trial, 2, 0.4)  # from the checkpoint of round 1: the same round once more
    report(again, trial, 3, 0.45, done=True)
    again.on_trial_complete(0, [], trial)
    trial.status = "TERMINATED"
    again.on_experiment_end([trial])
    assert again.close()

    parent, runs = runs_of(database, "resumed")
    assert (parent.info.status, runs["a"].info.status) == ("FINISHED", "FINISHED")
    assert runs["a"].data.tags["restored"] == "True"
    assert steps(database, runs["a"]) == [(1, 0.5), (2, 0.4), (3, 0.45)]
    assert runs["a"].data.metrics["best_score"] == 0.5


def test_events_that_arrive_twice_are_there_once(database, tmp_path):
    tracking, trial = track(database, "twice", tmp_path), FakeTrial("a")
    tracking.on_trial_start(0, [], trial)
    report(tracking, trial, 1, 0.5)
    assert tracking.close()
    (tmp_path / "queue" / "delivered").unlink()  # as if the driver died between the delivery and its mark
    assert track(database, "twice", tmp_path).close()
    _, runs = runs_of(database, "twice")
    assert steps(database, runs["a"]) == [(1, 0.5)]


def test_another_store_gets_everything(tmp_path):
    """Also what the first one has got; the first one, asked again, what it has missed."""
    got: dict[str, list[int]] = {"one": [], "two": []}
    for at, receiver in enumerate(("one", "two", "one")):
        queue = EventQueue(
            tmp_path, receiver, lambda events, to=receiver: got[to].extend(one["at"] for one in events), pytest.fail
        )
        queue.append({"at": at})
        assert queue.close(600.0)
    assert got["two"] == [0, 1]
    assert set(got["one"]) == {0, 1, 2}


def test_a_sweep_that_goes_on_with_another_store_is_whole_there(database, tmp_path):
    other, trial = f"sqlite:///{tmp_path}/other.db", FakeTrial("a")
    shutil.copy(database.removeprefix("sqlite:///"), tmp_path / "other.db")  # with its tables
    for uri, round_ in ((database, 1), (other, 2)):
        tracking = track(uri, "moved", tmp_path, params={"rounds": 3})
        tracking.on_trial_start(0, [], trial)
        report(tracking, trial, round_, 0.5)
        assert tracking.close()
    parent, runs = runs_of(other, "moved")
    assert parent.data.params == {"rounds": "3"}
    assert steps(other, runs["a"]) == [(1, 0.5), (2, 0.5)]
    assert runs["a"].data.params == {"learning_rate": "0.1"}


def test_callbacks_do_not_wait_for_a_receiver_that_hangs(tmp_path):
    free, got = threading.Event(), []

    def hang(events):
        free.wait()
        got.extend(events)

    queue = EventQueue(tmp_path, "there", hang, pytest.fail)
    for i in range(1200):  # all of them return while the first delivery still hangs
        queue.append({"trial": None, "at": i})
    assert not got
    assert not queue.flush(0.0)
    free.set()
    assert queue.close(600.0)
    assert [event["at"] for event in got] == list(range(1200))


def test_an_event_that_a_full_disk_cuts_off_leaves_no_trace(tmp_path):
    got: list[dict] = []
    queue = EventQueue(tmp_path, "there", got.extend, pytest.fail)
    queue.append({"at": 0})
    size, limits = queue.path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            queue.append({"at": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert queue.path.stat().st_size == size
    queue.append({"at": 2})
    assert queue.close(600.0)
    assert [event["at"] for event in got] == [0, 2]


def test_a_full_disk_of_its_own_is_not_called_mlflow_out_of_reach(database, tmp_path):
    mark = tmp_path / "queue/delivered.new"
    mark.parent.mkdir()
    mark.symlink_to("/dev/full")  # what has arrived cannot be written down
    tracking = track(database, "own-disk", tmp_path, warnings := [])
    assert not tracking.flush()
    assert warnings == [
        f"no space left in {tmp_path / 'queue'}; the sweep goes on, and MLflow waits until some is free"
    ]
    mark.unlink()
    assert tracking.close()
    assert len(warnings) == 1


def test_a_tracking_that_cannot_write_warns_once_and_never_raises(database, tmp_path):
    warnings: list[str] = []
    tracking = track(database, "full-disk", tmp_path, warnings)
    tracking.close()  # its file is closed: every write fails from now on
    for i in range(3):
        tracking.on_trial_start(0, [], FakeTrial(f"t{i}"))
    tracking.on_trial_result(0, [], FakeTrial("t0"), {})
    assert len(warnings) == 1
    assert "the sweep goes on" in warnings[0]


def test_the_queue_is_lines_of_json_that_a_person_can_read(database, tmp_path):
    tracking = track("http://alice:s3cret@127.0.0.1:9", "away", tmp_path, warnings := [])
    tracking.tag(None, {"note": "kept"})
    assert not tracking.close()
    events = [json.loads(line) for line in (tmp_path / "queue" / "events.jsonl").read_text().splitlines()]
    assert events[1]["tags"] == {"note": "kept"}
    assert "sent when --resume opens it" in warnings[-1]
    assert "MLflow at http://127.0.0.1:9 cannot be reached (API request to http://127.0.0.1:9/api" in warnings[0]
    kept = [file.read_text() for file in (tmp_path / "queue").iterdir()]
    assert "s3cret" not in " ".join([*warnings, *kept])


def test_events_that_the_disk_does_not_take_wait_in_memory(database, tmp_path):
    tracking, trial = track(database, "waits", tmp_path, warnings := []), FakeTrial("a")
    size, limits = (tmp_path / "queue/events.jsonl").stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, limits[1]))
    try:
        tracking.on_trial_start(0, [], trial)
        report(tracking, trial, 1, 0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    report(tracking, trial, 2, 0.6)
    assert tracking.close()
    _, runs = runs_of(database, "waits")
    assert steps(database, runs["a"]) == [(1, 0.5), (2, 0.6)]
    assert runs["a"].data.params == {"learning_rate": "0.1"}
    assert len(warnings) == 1


def test_what_is_for_a_deleted_experiment_is_kept_until_it_is_restored(database, tmp_path):
    from mlflow import MlflowClient

    tracking, trial = track(database, "deleted", tmp_path, warnings := []), FakeTrial("a")
    tracking.on_trial_start(0, [], trial)
    assert tracking.flush()
    client = MlflowClient(database)
    experiment = client.get_experiment_by_name("deleted").experiment_id
    client.delete_experiment(experiment)
    report(tracking, trial, 1, 0.5, done=True)
    tracking.on_trial_complete(0, [], trial)
    assert not tracking.flush()
    assert len(warnings) == 1
    assert "its experiment 'deleted' was deleted" in warnings[0]
    client.restore_experiment(experiment)
    assert tracking.close()
    _, runs = runs_of(database, "deleted")
    assert steps(database, runs["a"]) == [(1, 0.5)]
    assert runs["a"].info.status == "KILLED"


def test_a_run_that_somebody_deleted_holds_back_nothing(database, tmp_path):
    from mlflow import MlflowClient

    tracking, trials = track(database, "one-run", tmp_path, warnings := []), [FakeTrial("a"), FakeTrial("b")]
    for trial in trials:
        tracking.on_trial_start(0, [], trial)
    assert tracking.flush()
    _, runs = runs_of(database, "one-run")
    MlflowClient(database).delete_run(runs["a"].info.run_id)
    for trial in trials:
        report(tracking, trial, 1, 0.5, done=True)
        tracking.on_trial_complete(0, [], trial)
    assert tracking.close()
    _, left = runs_of(database, "one-run")
    assert left.keys() == {"b"}, "it is not made again"
    assert left["b"].info.status == "KILLED"
    assert len(warnings) == 1


def test_a_store_that_lost_the_sweep_gets_everything_again(database, tmp_path):
    """Its runs were deleted for good, as by `mlflow gc`, or its database was replaced."""
    trial = FakeTrial("a")
    for round_ in (1, 2):
        tracking = track(database, "lost", tmp_path)
        tracking.on_trial_start(0, [], trial)
        report(tracking, trial, round_, 0.5)
        assert tracking.close()
        if round_ == 1:
            forget(database, "lost")
    _, runs = runs_of(database, "lost")
    assert steps(database, runs["a"]) == [(1, 0.5), (2, 0.5)]


def test_a_database_that_is_deleted_under_a_sweep_is_made_again_with_everything(tmp_path):
    """SQLite goes on reading from the deleted file, and refuses to write to it."""
    file = tmp_path / "own.db"
    tracking, trial = track(f"sqlite:///{file}", "gone", tmp_path, warnings := []), FakeTrial("a")
    tracking.on_trial_start(0, [], trial)
    report(tracking, trial, 1, 0.5)
    assert tracking.flush()
    file.unlink()
    report(tracking, trial, 2, 0.6, done=True)
    tracking.on_trial_complete(0, [], trial)
    wait_for(tracking.flush)
    assert tracking.close()
    _, runs = runs_of(f"sqlite:///{file}", "gone")
    assert steps(f"sqlite:///{file}", runs["a"]) == [(1, 0.5), (2, 0.6)]
    assert len(warnings) == 1


def forget(database: str, experiment: str) -> None:
    """Delete the runs of an experiment from MLflow's tables."""
    own = "(select run_uuid from runs join experiments using (experiment_id) where experiments.name = ?)"
    with sqlite3.connect(database.removeprefix("sqlite:///")) as tables:
        for table in ("latest_metrics", "metrics", "params", "tags", "runs"):
            tables.execute(f"delete from {table} where run_uuid in {own}", [experiment])
