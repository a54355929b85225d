"""A real sweep of two bases that share hosts, and what is done with it afterwards: resume, reproduce, export, like."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from sweeps.commands.export import ExportOptions, export
from sweeps.commands.reproduce import reproduce
from sweeps.results.run_folder import Run
from tests.support.driving import MINIATURES, sweep_here
from tests.support.second_base import save_shallow_base
from trainables.models.loading import BUILTIN

SCRIPT = Path(__file__).parents[2] / "sweeps/arena.py"
PAIRS = ["lora@tiny", "lora@shallow"]


def flags(folder: Path, finalists: str = "1") -> list[str]:
    own = ["--base", "builtin:tiny", str(folder / "shallow"), "--learner", "lora", "--name", "two"]
    miniature = [*MINIATURES["arena"]]
    miniature[miniature.index("--finalists") + 1] = finalists
    return [*miniature, *own]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Path, str]:
    """The sweep ends after its search, and is resumed with finalists and a report."""
    folder = tmp_path_factory.mktemp("two")
    save_shallow_base(folder / "shallow")
    searched = sweep_here(folder, *flags(folder, "0"), script=SCRIPT).stdout
    assert "share a base of each of 2 bases, side by side" in searched
    return folder, sweep_here(folder, *flags(folder), "--resume", script=SCRIPT, report=True).stdout


def test_both_bases_get_equally_many_trials_and_a_finalist(two: tuple[Path, str]) -> None:
    folder, said = two
    run = Run.read(folder / "runs/two")
    assert sorted(one.pair for one in run.records) == sorted(2 * PAIRS)
    assert {one.pair for one in run.finals if not one.is_untouched} == {*PAIRS}
    assert {one.name for one in run.finals if one.is_untouched} == {"untouched base tiny", "untouched base shallow"}
    assert {*run.end["untouched"]} == {*PAIRS}
    assert "Bases, each by its best finalist: " in said
    page = (run.folder / "report.html").read_text()
    assert '<section id="bases"' in page
    assert "Bases, each by its best finalist" in (run.folder / "leaderboard.md").read_text()
    board = pd.read_csv(run.folder / "leaderboard.csv")
    assert {*board["base"]} == {"tiny", "shallow"}


def test_the_tracked_runs_carry_the_base(two: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = two
    monkeypatch.chdir(folder)
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    trials = [one for one in found if "base" in one.data.params]
    assert {(one.data.params["base"], one.data.tags["base"]) for one in trials} == {
        ("tiny", "builtin:tiny"),
        ("shallow", str(folder / "shallow")),
    }
    assert [one.data.params["bases"] for one in found if "bases" in one.data.params] == ["tiny, shallow"]


@pytest.mark.parametrize("label", ["tiny", "shallow"])
def test_a_trial_of_each_base_is_trained_again_and_exported(
    two: tuple[Path, str], label: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = two
    run, base = Run.read(folder / "runs/two"), str(BUILTIN["tiny"] if label == "tiny" else folder / "shallow")
    record = next(one for one in run.records if one.params.base == label and one.history.best)
    reproduce(run.folder, trial=str(record.number))
    assert "every answer scored the same" in capsys.readouterr().out
    export(run.folder, ExportOptions(to=folder / f"{label}-taken", trial=str(record.number)))
    config = json.loads((folder / f"{label}-taken/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"./{label}-taken/base"
    named, taken = (Path(one, "config.json").read_text() for one in (base, folder / f"{label}-taken/base"))
    assert taken == named, "its own base is beside it"
    card = (folder / f"{label}-taken/README.md").read_text()
    before = run.confirmation.untouched_of(label)
    scored_on_test = "% on the test split" in card.split("- Score:")[1].splitlines()[0]
    assert before is not None
    untouched = before.score if scored_on_test else run.end["untouched"][record.pair]["score"]
    assert f"- Untouched base on the same questions: {100 * untouched:.1f} %." in card
    assert f"base `{'builtin:tiny' if label == 'tiny' else 'shallow'}`" in card


def test_a_sweep_like_it_starts_each_base_from_its_own_best(two: tuple[Path, str]) -> None:
    folder, _ = two
    again = [one if one != "two" else "again" for one in flags(folder, "0")]
    sweep_here(folder, *again, "--seats", "1", "--like", "runs/two", script=SCRIPT)
    run, before = Run.read(folder / "runs/again"), Run.read(folder / "runs/two")
    first = run.facts["sweep"]["first"]
    assert {one["learner"] for one in first} == {*PAIRS}
    known = [(one.pair, one.params.fields["learning_rate"]) for one in before.records]
    assert all((one["learner"], one[f"{one['learner']}.learning_rate"]) in known for one in first)
    assert {one.pair for one in run.records} == {*PAIRS}, "as own processes, too"
