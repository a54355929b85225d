"""Finalists of an earlier look are put aside once, at whatever moment the driver is killed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from sweeps.results.confirmation import beside_answers
from sweeps.results.run_folder import Run
from sweeps.results.tables import BESIDE, FINALISTS
from sweeps.spec.deserialize import rebuild
from sweeps.spec.sweep import data_fingerprint
from sweeps.tuning import second_look
from tests.support.commands_kit import SWEEP, TASK, make_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep with finalists that were asked all questions of the test split, with one seed."""
    (tmp_path / "adapter").mkdir()
    make_run(tmp_path / "run", tmp_path / "adapter")
    return tmp_path / "run"


@pytest.mark.parametrize("killed_in", ["replacing_folder", "shutil", "after a deletion", "_keep", "nothing"])
def test_what_a_look_left_is_put_aside_once(
    folder: Path, killed_in: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Killed:
        def __call__(self, *_: object) -> None:
            raise KeyboardInterrupt

        copyfile = __call__

    def delete_one(path: Path, missing_ok: bool = False) -> None:
        os.unlink(path)
        raise KeyboardInterrupt

    before = Run.read(folder).confirmation.finals
    if killed_in != "nothing":
        with monkeypatch.context() as patch:
            if killed_in == "after a deletion":
                patch.setattr(Path, "unlink", delete_one)
            else:
                patch.setattr(second_look, killed_in, Killed())
            with pytest.raises(KeyboardInterrupt):
                second_look.begin_look(folder, SWEEP)
    sweep = second_look.begin_look(folder, SWEEP)
    assert (sweep.earlier.count, sweep.earlier.questions, sweep.earlier.seeds) == (1, len(TASK.test()), 1)
    left = Run.read(folder)
    assert not left.finals
    assert [one.name for one in left.earlier_looks[0].finals] == [one.name for one in before]
    assert "look 2 at the test split: questions and seeds that no finalist has had" in capsys.readouterr().out
    task = rebuild(left.facts).pairs[0].task
    assert not {one.key for one in task.test()} & {one.key for one in TASK.test()}
    assert left.facts["data_fingerprints"][task.name] == data_fingerprint(task) != data_fingerprint(TASK)


def test_a_third_look_follows_the_second(folder: Path) -> None:
    sweep = second_look.begin_look(folder, SWEEP)
    shutil.copyfile(folder / "looks/1" / FINALISTS, folder / FINALISTS)
    second = Run(folder / "looks/1", {}, {}).confirmation
    (folder / BESIDE).write_text(yaml.safe_dump(beside_answers(second) | {"look": 2}))
    third = second_look.begin_look(folder, sweep)
    assert (third.earlier.count, third.earlier.questions) == (2, 2 * len(TASK.test()))
    assert [one.look for one in Run.read(folder).earlier_looks] == [1, 2]
