"""`--minutes`: a whole sweep in the time that was given, stopped and resumed with the sizes that it began with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sweeps.arena import SWEEP
from sweeps.results.run_folder import Run
from sweeps.tuning import design, probes
from tests.support.driving import press_ctrl_c, sweep_here, wait_for

ARENA = Path(__file__).resolve().parents[2] / "sweeps/arena.py"
FLAGS = ["--set", "planted=nothing", "--finalists", "1", "--rounds", "4"]


@pytest.fixture(autouse=True)
def _quick_ends(monkeypatch):
    """These sweeps write no report and have little to start, and a short probe is enough."""
    monkeypatch.setattr(probes, "PROBES_S", 4.0)
    monkeypatch.setattr(design, "STARTS_S", 2.0)
    monkeypatch.setattr(design, "END_S", 0.0)


def facts(run):
    return yaml.safe_load((run / "sweep.yaml").read_text())


def test_a_sweep_ends_with_finalists_in_the_minutes_that_it_has(tmp_path, ray_session, monkeypatch):
    """Two learners on the arena, with fewer questions than the script has, as where they take longer than training."""
    monkeypatch.setattr(design, "_search_sizes", lambda *given: [100])
    flags = ["--learner", "lora", "soft_prompt", "--rounds", "2", "--set", "steps_per_round=2", "--minutes", "2"]
    done = sweep_here(tmp_path, *flags, script=ARENA)
    run = tmp_path / "runs/arena"
    left, kept = Run.read(run), facts(run)
    assert done.stdout.index("design for 2 minutes") < done.stdout.index("arena: about ")
    assert kept["sweep"]["rounds"] == 2, "given"
    assert kept["sweep"]["num_samples"] == kept["design"]["num_samples"] != SWEEP.num_samples
    assert kept["sweep"]["pairs"][0]["task"]["fields"]["search_size"] == 100
    assert {one.n_items for one in left.records if one.status != "failed"} == {100}
    assert {one.pair for one in left.confirmation.finals if one.pair} <= {"lora", "soft_prompt"}
    assert left.confirmation.looks, "no time is over before the finalists are compared"
    assert {one.status for one in left.records} <= {"finished", "pruned"}
    assert not left.end["interrupted"]

    sweep_here(tmp_path, *flags, "--name", "arena", "--resume", script=ARENA)
    again = Run.read(run)
    assert [one.trial_id for one in again.records] == [one.trial_id for one in left.records], "the search was over"
    assert [one.score for one in again.finals] == [one.score for one in left.finals]


def test_a_resumed_sweep_keeps_its_design_and_gets_its_minutes_again(tmp_path, ray_session):
    run = tmp_path / "runs/toy"

    def interrupt(printed):
        wait_for(lambda: (run / "trials.parquet").is_file() and sum(one.rounds for one in Run.read(run).records) > 4)
        press_ctrl_c()

    flags = [*FLAGS, "--minutes", "0.5"]
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
