"""`espalier clean` removes what is named, and nothing that runs or lies elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sweeps.commands.clean import clean
from sweeps.persistence.lock import driving
from tests.support.driving import contents
from tests.support.facts_kit import least_facts
from trainables.bad_input import BadInput


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Write two sweeps, a chain's phase, a cache and artifacts; beside them files that are nobody's."""
    folder = tmp_path / "here"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("runs/a", "runs/b", "runs/chain/chain-sft"):
        (folder / name / "best").mkdir(parents=True)
        (folder / name / "sweep.yaml").write_text(yaml.safe_dump(least_facts()))
        (folder / name / "best/adapter").write_bytes(bytes(2_000_000))
    for path in (folder / "mlartifacts", folder / "runs/mine", tmp_path / "cache/espalier/features"):
        path.mkdir(parents=True)
        (path / "file").write_bytes(bytes(500_000))
    monkeypatch.chdir(folder)
    return folder


def test_the_list_has_sizes_and_removes_nothing(tmp_path, capsys):
    before = contents(tmp_path)
    clean()
    said = capsys.readouterr().out
    assert contents(tmp_path) == before
    assert " 2.0 MB  runs/a: a sweep that does not run" in said
    assert " 2.0 MB  runs/chain/chain-sft" in said
    assert " 0.5 MB  cache/features" in said
    assert " 0.5 MB  mlartifacts" in said
    assert " 7.0 MB in all" in said
    assert "runs/mine" not in said


def test_just_what_is_named_is_removed(tmp_path, capsys):
    before = contents(tmp_path)
    clean(("runs/a/", "cache/features"), yes=True)
    gone = before.keys() - contents(tmp_path).keys()
    assert gone == {"here/runs/a/sweep.yaml", "here/runs/a/best/adapter", "cache/espalier/features/file"}
    assert not Path("runs/a").exists()
    assert capsys.readouterr().out == "removed runs/a\nremoved cache/features\n"


def test_a_sweep_that_runs_is_kept_and_so_are_its_artifacts(tmp_path):
    before = contents(tmp_path)
    with driving(Path("runs/a")):
        for name in ("runs/a", "mlartifacts", "cache/features"):
            with pytest.raises(BadInput, match="runs/a is being run by process"):
                clean((name, "runs/b"), yes=True)
    assert contents(tmp_path).keys() - before.keys() == {"here/runs/a/driver.lock"}


@pytest.mark.parametrize("name", ["runs", "runs/mine", "runs/../mine", "/etc", "..", "cache", "mlflow.db", ""])
def test_nothing_else_can_be_named(tmp_path, name):
    before = contents(tmp_path)
    with pytest.raises(BadInput, match="is nothing that espalier clean removes; it knows runs/a, runs/b"):
        clean(("runs/b", name), yes=True)
    assert contents(tmp_path) == before


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Path("runs/a").rename(tmp_path / "elsewhere/a")
    Path("runs/a").symlink_to(tmp_path / "elsewhere/a")
    Path("runs/b/best/out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="runs/a is a link to"):
        clean(("runs/a",), yes=True)
    clean(("runs/b",), yes=True)
    assert (tmp_path / "elsewhere/a/best/adapter").is_file()


def test_without_a_terminal_nobody_can_be_asked(tmp_path):
    before = contents(tmp_path)
    with pytest.raises(BadInput, match=r"remove runs/a, 2.0 MB\? nobody can be asked here; add --yes"):
        clean(("runs/a",))
    assert contents(tmp_path) == before
