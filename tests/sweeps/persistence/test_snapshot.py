"""`--resume` continues from the newest complete snapshot, whatever Tune left, and drops the error that ended it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Experiment
from ray.tune.search import ConcurrencyLimiter, SearchGenerator

from cluster.user_config import config_folder
from sweeps.persistence.secret_key import secret_key
from sweeps.persistence.snapshot import KEY, SNAPSHOT, Snapshot, check_resumable
from sweeps.spec.trust import apply_trust
from tests.support.planted import Planted
from tests.support.same_searcher import Same
from trainables.bad_input import BadInput
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


def kept(run: Path) -> Path:
    """A sweep's folder with a snapshot that this user signed; return the snapshot."""
    staging = run / "staging"
    staging.mkdir(parents=True)
    (run / "tune").mkdir()
    (staging / "searcher-state-1.pkl").write_bytes(pickle.dumps("searcher"))
    (staging / "search_gen_state-1.json").write_bytes(pickle.dumps("searches"))
    trial = SimpleNamespace(storage=SimpleNamespace(experiment_driver_staging_path=str(staging)))
    Snapshot(run / SNAPSHOT).on_step_end(0, [trial])
    return run / SNAPSHOT


def rewrite(file: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> None:
    """Change the files of a snapshot, and keep its signature."""
    with zipfile.ZipFile(file) as whole:
        contents, signature = {name: whole.read(name) for name in whole.namelist()}, whole.comment
    with zipfile.ZipFile(file, "w") as whole:
        for name, content in change(contents).items():
            whole.writestr(name, content)
        whole.comment = signature


def planted(file: Path) -> bytes:
    return pickle.dumps(Planted(file))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda held, bad: held | {"searcher-state-1.pkl": bad}, "was not written by this user on this machine"),
        (lambda held, bad: held | {"callback-states-2.pkl": bad}, "was not written by this user on this machine"),
        (lambda held, bad: {f"x{name}": value for name, value in held.items()}, "was not written by this user"),
        (lambda held, bad: {}, "was not written by this user"),
        (lambda held, bad: {"../x.pkl": bad}, r"has a file '../x.pkl', which no snapshot has"),
        (lambda held, bad: {"x.py": bad}, "has a file 'x.py', which no snapshot has"),
    ],
)
def test_a_snapshot_that_was_changed_is_not_unpickled(change: Any, error: str, tmp_path: Path) -> None:
    file = kept(tmp_path / "run")
    check_resumable(tmp_path / "run")
    rewrite(file, lambda held: change(held, planted(tmp_path / "planted")))
    for refuse in (lambda: check_resumable(tmp_path / "run"), lambda: Snapshot(file).restore(tmp_path / "run/tune")):
        with pytest.raises(BadInput, match=error) as caught:
            refuse()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "planted").exists()
    assert not [*(tmp_path / "run/tune").iterdir()]


def test_a_snapshot_of_another_user_or_machine_is_restored_only_on_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.spec.trust._allowed", set())
    kept(tmp_path / "run")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    with pytest.raises(BadInput, match="if you trust its author, add --trust folder"):
        check_resumable(tmp_path / "run")
    apply_trust(["folder"])
    check_resumable(tmp_path / "run")


def test_the_key_is_this_user_s_alone_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    kept(tmp_path / "run")
    key = (tmp_path / "config/espalier" / KEY).read_bytes()
    modes = [path.stat().st_mode & 0o777 for path in (config_folder(), config_folder() / KEY)]
    assert modes == [0o700, 0o600]
    kept(tmp_path / "second")
    check_resumable(tmp_path / "run")
    assert [path.name for path in config_folder().iterdir()] == [KEY]
    assert (config_folder() / KEY).read_bytes() == key
    assert key not in (tmp_path / "run" / SNAPSHOT).read_bytes()
    (config_folder() / KEY).write_bytes(b"")
    with pytest.raises(BadInput, match="has 0 bytes and not 32; delete it"):
        check_resumable(tmp_path / "run")


def test_a_home_that_keeps_no_key_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(BadInput, match=r"/file/.*: Not a directory; set XDG_CONFIG_HOME to a folder in which a key"):
        secret_key(KEY)


def test_all_pickles_are_gone_before_tune_restores(tmp_path: Path) -> None:
    """Tune loads `_dict_checkpoint.pkl` of a checkpoint, whatever the trainable wrote."""
    file, tune = tmp_path / "run" / SNAPSHOT, tmp_path / "run/tune"
    for name in (".hidden.pkl", "tuner.pkl", "experiment_state-9.json", "t1/checkpoint_000003/_dict_checkpoint.pkl"):
        (tune / name).parent.mkdir(parents=True, exist_ok=True)
        (tune / name).write_bytes(b"")
    (tune / "t1/result.json").touch()
    assert not Snapshot(file).restore(tune)
    assert [path.name for path in tune.rglob("*") if path.is_file()] == ["result.json"]


@pytest.mark.parametrize("link", ["tune/t1", "tune", "clones", "best/README.md"])
def test_a_folder_with_links_is_not_resumed(link: str, tmp_path: Path) -> None:
    """Else what lies elsewhere would be deleted or overwritten."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.pkl").touch()
    run = tmp_path / "run"
    (run / link).parent.mkdir(parents=True)
    (run / link).symlink_to(elsewhere)
    with pytest.raises(BadInput, match=f"{run / link} is a link, which no sweep makes; remove it"):
        check_resumable(run)
