"""A copy of a sweep's folder elsewhere: what it has at every moment, and whose it is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from sweeps.persistence.lock import LOCK_FILE
from sweeps.persistence.mirror import Mirror, bring
from sweeps.persistence.snapshot import SNAPSHOT
from sweeps.results.run_folder import DATABASE, SWEEP_FILE
from tests.support.driving import contents, sweep_here, wait_for
from tests.support.s3_kit import S3
from trainables.bad_input import BadInput


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "here/toy"
    (made / "tune/a").mkdir(parents=True)
    (made / SWEEP_FILE).write_text("name: toy")
    (made / "tune/a/state.pt").write_bytes(b"1")
    return made


def test_what_changes_is_brought_over_and_nothing_else(folder, tmp_path):
    mirror, there = Mirror(f"file://{tmp_path}/there", folder), tmp_path / "there/toy"
    assert not mirror.exists()
    (folder / LOCK_FILE).write_text("1")
    (folder / "mlflow").mkdir()
    (folder / "mlflow/delivered").write_text("9")
    for name in (".best.new", ".best.old"):
        (folder / name).mkdir()
        (folder / name / "adapter_config.json").write_text("{}")
    mirror.copy()
    assert mirror.exists()
    assert contents(there) == {SWEEP_FILE: b"name: toy", "tune/a/state.pt": b"1"}
    before = (there / SWEEP_FILE).stat().st_mtime_ns
    (folder / "tune/a/state.pt").unlink()
    (folder / "tune/a/next.pt").write_bytes(b"22")
    mirror.copy()
    assert contents(there) == {SWEEP_FILE: b"name: toy", "tune/a/next.pt": b"22"}
    assert (there / SWEEP_FILE).stat().st_mtime_ns == before, "what is the same is not copied again"
    (folder / "tune/a/next.pt").write_bytes(b"33")
    mirror.copy()
    assert contents(there)["tune/a/next.pt"] == b"33"


def test_a_database_is_copied_as_of_one_moment(folder, tmp_path):
    """A database with an open transaction, half of which is in the file."""
    with sqlite3.connect(folder / DATABASE) as database:
        database.execute("create table trials (number)")
        database.execute("pragma cache_size = 1")
    database.executemany("insert into trials values (?)", [(i,) for i in range(10)])
    database.commit()
    database.execute("insert into trials values (10)")
    Mirror(f"file://{tmp_path}/there", folder).copy()
    database.rollback()
    database.close()
    with sqlite3.connect(tmp_path / "there/toy" / DATABASE) as copy:
        assert copy.execute("select count(*) from trials").fetchone() == (10,)


def test_what_waits_in_a_database_s_log_is_copied_too(folder, tmp_path):
    with sqlite3.connect(folder / DATABASE) as database:
        database.execute("pragma journal_mode = wal")
        database.execute("create table trials (number)")
    mirror, there = Mirror(f"file://{tmp_path}/there", folder), tmp_path / "there/toy"
    mirror.copy()
    before = (folder / DATABASE).stat()
    database.execute("insert into trials values (1)")
    database.commit()
    after = (folder / DATABASE).stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns), "it waits in the log"
    mirror.copy()
    assert [one for one in contents(there) if one.startswith(DATABASE)] == [DATABASE]
    with sqlite3.connect(there / DATABASE) as copy:
        assert copy.execute("select number from trials").fetchall() == [(1,)]
    database.close()


def test_a_snapshot_never_names_what_is_not_there(folder, tmp_path, monkeypatch):
    """One that is written while files are brought over waits for the next time, as do the checkpoints that it names."""
    (folder / SNAPSHOT).write_bytes(b"names state.pt")
    mirror, there = Mirror(f"file://{tmp_path}/there", folder), tmp_path / "there/toy"
    put = shutil.copyfileobj

    def meanwhile(source, target):
        (folder / "tune/a/late.pt").write_bytes(b"2")
        (folder / SNAPSHOT).write_bytes(b"names late.pt")
        put(source, target)

    monkeypatch.setattr(shutil, "copyfileobj", meanwhile)
    mirror.copy()
    assert contents(there)[SNAPSHOT] == b"names state.pt"
    monkeypatch.undo()
    mirror.copy()
    assert contents(there) == contents(folder)


def test_a_snapshot_that_is_replaced_while_it_is_read_comes_next(folder, tmp_path, monkeypatch):
    """The new snapshot does not count as copied, even if nothing changes after it."""
    (folder / SNAPSHOT).write_bytes(b"old")
    mirror, there = Mirror(f"file://{tmp_path}/there", folder), tmp_path / "there/toy"

    read = Path.read_bytes

    def replaced(file):
        content = read(file)
        file.write_bytes(b"newest")
        return content

    with monkeypatch.context() as planted:
        planted.setattr(Path, "read_bytes", replaced)
        mirror.copy()
    assert contents(there)[SNAPSHOT] == b"old"
    mirror.copy()
    assert contents(there)[SNAPSHOT] == b"newest"


def test_a_checkpoint_that_is_tidied_away_meanwhile_is_still_brought_over(folder, tmp_path, monkeypatch):
    """The snapshot that was frozen names it."""
    (folder / SNAPSHOT).write_bytes(b"names state.pt")
    mirror, there, put = Mirror(f"file://{tmp_path}/there", folder), tmp_path / "there/toy", shutil.copyfileobj

    def meanwhile(source, target):
        (folder / "tune/a/state.pt").unlink(missing_ok=True)
        put(source, target)

    monkeypatch.setattr(shutil, "copyfileobj", meanwhile)
    mirror.copy()
    assert contents(there)["tune/a/state.pt"] == b"1"
    assert SNAPSHOT in contents(there)
    mirror.copy()
    assert "tune/a/state.pt" not in contents(there)


def test_a_mirror_is_of_one_driver_after_the_other(folder, tmp_path):
    """A machine that comes back does not write its old state over what another one has done since."""
    uri, other = f"file://{tmp_path}/there", tmp_path / "other/toy"
    with Mirror(uri, folder).following():
        pass
    bring(uri, folder)  # ours, so it may go on
    bring(uri, other)
    assert contents(other).keys() == contents(folder).keys()
    (other / "tune/a/state.pt").unlink()
    with Mirror(uri, other).following():
        (other / "new").write_text("1")
    assert "tune/a/state.pt" not in contents(tmp_path / "there/toy"), "what was tidied before it followed is gone, too"
    with pytest.raises(BadInput, match="another driver has gone on there"):
        bring(uri, folder)
    with pytest.raises(BadInput, match=r"is where .* is itself"):
        Mirror(f"file://{tmp_path}/here", folder)


def test_what_a_person_keeps_there_is_left_alone(folder, tmp_path):
    """A folder that happens to have the sweep's name: files that are not here are no stale copies."""
    there = tmp_path / "there/toy"
    (there / "photos").mkdir(parents=True)
    (there / "photos/cat.jpg").write_bytes(b"meow")
    for command in ([], ["--resume"]):
        refused = sweep_here(tmp_path, "--name", "toy", "--mirror", f"file://{tmp_path}/there", *command,
                        "--storage-path", str(tmp_path / ("here" if command else "new")), check=False)  # fmt: skip
        assert refused.returncode == 2
        assert f"{there} has files that are no sweep's, as photos/cat.jpg; give another place" in refused.stderr
    assert contents(there) == {"photos/cat.jpg": b"meow"}
    assert not (tmp_path / "new").exists(), "it is refused before anything is made"


@pytest.mark.parametrize("name", [SWEEP_FILE, "tune/a/state.pt"])
def test_a_first_copy_that_was_cut_off_is_known_as_the_sweeps(folder, tmp_path, monkeypatch, name):
    mirror, put = Mirror(f"file://{tmp_path}/there", folder), shutil.copyfileobj

    def cut_off(source, target):
        if os.path.samestat(os.fstat(source.fileno()), (folder / name).stat()):
            raise OSError("planted")
        put(source, target)

    (folder / "a").touch()
    monkeypatch.setattr(shutil, "copyfileobj", cut_off)
    with pytest.raises(BadInput, match="planted"), mirror.following():
        pass
    mirror.check_ours()


def test_a_fetch_that_was_cut_off_begins_anew(folder, tmp_path, monkeypatch):
    uri, other = f"file://{tmp_path}/there", tmp_path / "other/toy"
    Mirror(uri, folder).copy()
    with monkeypatch.context() as planted:
        planted.setattr(shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(OSError("planted")))
        with pytest.raises(BadInput, match="planted"):
            bring(uri, other)
    assert not other.exists()
    bring(uri, other)
    assert contents(other) == contents(folder)


def test_out_of_reach(folder, tmp_path, capsys, monkeypatch):
    """Before the sweep it is bad input; during the sweep a warning, once, and all is there in the end."""
    with pytest.raises(BadInput, match=r"--mirror ftp://x/y: .*give s3://"):
        Mirror("ftp://x/y", folder)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="check its address and your rights there"), \
            Mirror(f"file://{tmp_path}/file/there", folder).following():  # fmt: skip
        pass
    mirror, there = Mirror(f"file://{tmp_path}/there", folder), tmp_path / "there"
    copy, looks, turn = Mirror.copy, [], threading.Lock()

    def looked(self):
        with turn:
            looks.append(there.is_file())
            copy(self)

    monkeypatch.setattr("sweeps.persistence.mirror.EVERY_S", 0.01)
    monkeypatch.setattr(Mirror, "copy", looked)
    with mirror.following():
        with turn:
            shutil.rmtree(there)
            there.touch()
            (folder / "new").write_text("1")
        wait_for(lambda: sum(looks) >= 3)  # so two at least are over, in which it was in the way
        assert capsys.readouterr().err.count("trying again") == 1
        there.unlink()
    assert (there / "toy/new").read_text() == "1"
    with pytest.raises(BadInput, match="nor in --mirror"):
        bring(f"file://{tmp_path}/there", tmp_path / "elsewhere/unknown")


@pytest.fixture
def s3(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAPLANTED")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    made = S3()
    yield made
    made.close()


def test_a_bucket_has_what_the_folder_has(folder, tmp_path, s3):
    Mirror(s3.uri("bucket/runs"), folder).copy()
    bring(s3.uri("bucket/runs"), tmp_path / "other/toy")
    assert contents(tmp_path / "other/toy") == contents(folder) == {SWEEP_FILE: b"name: toy", "tune/a/state.pt": b"1"}


@pytest.mark.parametrize(
    "name", ["../escaped.txt", "../../../escaped.txt", "tune/../../escaped.txt", "{tmp}/absolute.txt", ".."]
)
def test_a_bucket_cannot_write_outside_the_sweep_s_folder(folder, tmp_path, s3, name):
    """Everything in a listing that names another place is refused, and nothing of it is written."""
    uri = s3.uri("bucket/runs")
    Mirror(uri, folder).copy()
    s3.objects[f"bucket/runs/toy/{name.format(tmp=tmp_path)}"] = b"planted"
    before = contents(tmp_path)
    with pytest.raises(BadInput, match=r"has a file called .*, which would be written outside .*; do not resume"):
        bring(uri, tmp_path / "deep/deeper/other/toy")
    assert b"planted" not in contents(tmp_path).values()
    assert contents(tmp_path).keys() - before.keys() <= {f"deep/deeper/other/.toy.incoming/{SWEEP_FILE}"}
