"""One run under several names: a chain stands for its latest phase, and so does whatever leads to the chain."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.commands import export as exporting
from sweeps.commands.attribute import TABLE, attribute
from sweeps.commands.export import ExportOptions, export
from sweeps.commands.judging.command import REPORT, VERDICTS, judge
from sweeps.commands.reproduce import reproduce
from sweeps.spec.open_run import open_run
from tests.support.finished_sweep import write_finished_sweep
from trainables.bad_input import BadInput
from trainables.learners.lm.cot import CotConfig
from trainables.tasks.strategyqa.task import StrategyQaTask


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the folder of a sweep of one trial and one round."""
    folder = tmp_path_factory.mktemp("left")
    task = StrategyQaTask(train_size=50, search_size=4, test_size=6)
    write_finished_sweep(folder, "one", CotConfig(steps_per_round=1), task)
    return folder


@pytest.fixture
def chain(left: Path, tmp_path: Path) -> Path:
    """The sweep as the only phase of a chain."""
    shutil.copytree(left, tmp_path / "runs/chain/chain-one")
    return tmp_path / "runs/chain"


@pytest.fixture(params=["chain", "relative", "inside", "linked", "phase"])
def name(request: pytest.FixtureRequest, chain: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The names that a person may type for that sweep."""
    monkeypatch.chdir(chain if request.param == "inside" else chain.parent)
    (chain.parent / "newest").symlink_to(chain)
    typed = {"chain": chain, "relative": "chain", "inside": ".", "linked": "newest", "phase": chain / "chain-one"}
    return Path(typed[request.param])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_taken(export: Path, best: Path) -> None:
    """All files of `best/` are in the export, unchanged but for the name of the base."""
    wanted, taken = contents(best), contents(export)
    assert taken["README.md"]
    configs = [json.loads(files.pop("adapter_config.json")) for files in (wanted, taken)]
    assert configs[1] == configs[0] | {"base_model_name_or_path": "./taken/base"}
    assert wanted.items() <= taken.items()


def test_an_export_leaves_the_winner_where_it_is(name: Path, chain: Path, left: Path, tmp_path: Path) -> None:
    before = contents(chain)
    export(name, ExportOptions(to=tmp_path / "out/taken"))
    assert contents(chain) == before
    check_taken(tmp_path / "out/taken", left / "best")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["taken"], "nothing is left beside it"


def test_an_export_that_fails_leaves_nothing_new_and_takes_nothing(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(chain)

    def unwritten(*_: object) -> str:
        raise OSError("no space left")

    monkeypatch.setattr(exporting, "card", unwritten)
    for merge in (False, True):
        with pytest.raises(OSError, match="no space left"):
            export(chain, ExportOptions(to=tmp_path / "out/taken", merge=merge))
    assert [*(tmp_path / "out").iterdir()] == []
    assert contents(chain) == before


@pytest.mark.parametrize(
    ("verb", "writes"),
    [
        (lambda run: attribute(run, questions=1, steps=2), {TABLE}),
        (lambda run: judge(run), {VERDICTS, REPORT}),
    ],
    ids=["attribute", "judge"],
)
def test_a_verb_reads_and_writes_in_the_phase(
    verb: Callable[[Path], None], writes: set[str], name: Path, chain: Path
) -> None:
    before = contents(chain)
    verb(name)
    assert contents(chain).keys() - before.keys() == {f"chain-one/{one}" for one in writes}


def test_the_winner_trained_again_is_compared_with_its_weights(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):  # as its score was made up
        reproduce(chain)
    assert "; the weights are bit for bit those in best/" in capsys.readouterr().out


def test_a_chain_is_found_whatever_it_is_called(name: Path, chain: Path) -> None:
    assert open_run(name).folder.samefile(chain / "chain-one")


def test_a_winner_whose_writer_was_killed_is_exported(chain: Path, left: Path, tmp_path: Path) -> None:
    (chain / "chain-one/best").rename(chain / "chain-one/.best.old")
    export(chain, ExportOptions(to=tmp_path / "taken"))
    check_taken(tmp_path / "taken", left / "best")
    assert (chain / "chain-one/.best.old").is_dir(), "who reads moves nothing"


def test_what_no_sweep_has_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no sweep.yaml in it"):
        open_run(tmp_path)
