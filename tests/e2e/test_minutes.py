"""`--minutes`: a whole sweep in the time that was given, stopped and resumed with the sizes that it began with."""

from __future__ import annotations

import pytest
import yaml

from sweeps.results.run_folder import Run
from sweeps.tuning import design
from tests.support.driving import press_ctrl_c, sweep_here, wait_for

FLAGS = ["--set", "planted=nothing", "--finalists", "1", "--rounds", "4"]


@pytest.fixture(autouse=True)
def _quick_ends(monkeypatch):
    """The toy's sweep has no report to write, and little to start."""
    monkeypatch.setattr(design, "STARTS_S", 2.0)
    monkeypatch.setattr(design, "END_S", 0.0)


def facts(run):
    return yaml.safe_load((run / "sweep.yaml").read_text())


def test_a_sweep_ends_with_finalists_in_the_minutes_that_it_has(tmp_path, ray_session):
    done = sweep_here(tmp_path, *FLAGS, "--minutes", "0.25")
    run = tmp_path / "runs/toy"
    left, kept = Run.read(run), facts(run)
    assert done.stdout.index("design for 0.25 minutes") < done.stdout.index("toy: ")
    assert kept["sweep"]["rounds"] == 4, "given"
    assert kept["sweep"]["num_samples"] == kept["design"]["num_samples"] > 6, "chosen; the script has six"
    assert left.confirmation.finals, "no time is over before the finalists are trained"
    assert left.confirmation.asked == kept["design"]["questions"] or left.confirmation.looks
    assert {one.status for one in left.records} <= {"finished", "pruned"}
    assert not left.end["interrupted"]
    assert left.end["seconds"] < 60 * 0.25 * 1.2, "a sweep that takes longer breaks its promise"


def test_a_resumed_sweep_keeps_its_design_and_gets_its_minutes_again(tmp_path, ray_session):
    run = tmp_path / "runs/toy"

    def interrupt(printed):
        wait_for(lambda: (run / "trials.parquet").is_file() and sum(one.rounds for one in Run.read(run).records) > 4)
        press_ctrl_c()

    flags = [*FLAGS, "--minutes", "0.3"]
    assert sweep_here(tmp_path, *flags, check=False, meanwhile=interrupt).returncode == 130
    before, begun = facts(run), Run.read(run).records[0]
    sweep_here(tmp_path, *flags, "--name", "toy", "--resume")
    after = facts(run)
    assert after["design"] == before["design"]
    assert after["sweep"]["num_samples"] == before["sweep"]["num_samples"]
    left = Run.read(run)
    assert left.records[0].params == begun.params
    assert left.confirmation.finals


def test_minutes_cannot_be_given_to_a_sweep_that_began_without(tmp_path, ray_session):
    sweep_here(tmp_path, "--set", "planted=nothing", "--num-samples", "1", "--rounds", "2")
    done = sweep_here(
        tmp_path, "--set", "planted=nothing", "--num-samples", "1", "--rounds", "2", "--minutes", "5", "--name", "toy",
        "--resume", check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--minutes 5: runs/toy was begun without; leave it out, or use --time-budget-s" in done.stderr
