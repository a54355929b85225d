"""Paused trials of a whole sweep: one is stopped by hand, Ctrl-C ends the sweep, and `--resume` leaves them paused."""

from __future__ import annotations

import re
from collections import Counter

from sweeps.commands.steering import status, stop
from sweeps.results.run_folder import Run
from tests.support.driving import press_ctrl_c, slow, study, sweep_here, wait_for

FLAGS = ["--num-samples", "6", "--rounds", "4", "--finalists", "0"]


def test_paused_trials_are_stopped_and_outlive_ctrl_c(tmp_path, ray_session):
    """Two trials at a time, rungs at rounds 2 and 4: of the first two none is among the best third, so both pause."""
    flags, log = slow(tmp_path, *FLAGS)
    flags[flags.index("--grace-period") + 1] = "2"
    flags[flags.index("seconds=0.4")] = "seconds=1"  # time to look at it, also on a busy machine
    run = tmp_path / "runs/toy"

    def paused():
        left = Run.read(run) if (run / "trials.parquet").is_file() else None
        return [one.number for one in left.records if one.status == "paused"] if left else []

    def steer(printed):
        wait_for(lambda: len(paused()) == 2)
        status(run)
        stop(str(paused()[0]), run=run)
        wait_for(lambda: Run.read(run).records[0].status == "pruned")
        press_ctrl_c()

    done = sweep_here(tmp_path, *flags, check=False, meanwhile=steer)
    assert done.returncode == 130, done.stdout + done.stderr
    first, second = Run.read(run).records[:2]
    assert (first.status, first.rounds, first.notes) == ("pruned", 2, ("stopped by hand",))
    assert (second.status, second.rounds) == ("interrupted", 2)
    assert "2 paused" in done.stdout, "as `espalier status` says"
    assert re.search(r"trial 1 paused at round 2, \d", done.stdout)

    sweep_here(tmp_path, *flags, "--name", "toy", "--resume")
    left = Run.read(run)
    assert Counter(one.status for one in left.records)["finished"] >= 1
    assert {one.status for one in left.records} == {"finished", "pruned"}
    assert left.records[0].rounds == 2, "what was stopped by hand stays so"
    best = max(left.records[1:], key=lambda one: one.history[1]["score"])
    assert best.status == "finished", "the best at the rung went on, whenever it came"
    repeated = [line for line, count in Counter(log.read_text().splitlines()).items() if count > 1]
    assert len(repeated) <= 2, "only rounds that Ctrl-C cut short were run again"
    assert len(study(tmp_path).trials) == 6


def test_a_budget_ends_the_search_in_good_order(tmp_path, ray_session):
    """Work of three trainings of four rounds, where thirty trials could have started: it ends as planned."""
    flags = ["--set", "planted=nothing", "--num-samples", "30", "--rounds", "4", "--grace-period", "1"]
    done = sweep_here(tmp_path, *flags, "--budget", "3", "--finalists", "1")
    left = Run.read(tmp_path / "runs/toy")
    started = len(left.records)
    assert f"--budget 3 is used up: {started} of 30 trials were started" in done.stdout
    assert 4 <= sum(one.rounds for one in left.records) <= 15, "up to two that ran beside may go on"
    assert max(one.rounds for one in left.records) == 4, "the best one went on to its end"
    assert left.confirmation.finals, "and the finalists followed"


def test_a_trial_that_fails_right_after_a_rung_goes_on_from_its_checkpoint(tmp_path, ray_session):
    """It alone may go on from round 1, and its process dies in round 2. Tune then adds it once more."""
    flags = ["--num-samples", "1", "--rounds", "4", "--grace-period", "1"]
    done = sweep_here(tmp_path, *flags, "--set", "planted=kill", "quality=0.9", f"log={tmp_path / 'rounds.log'}")
    assert "restored" in done.stdout
    (trial,) = Run.read(tmp_path / "runs/toy").records
    assert (trial.status, trial.rounds) == ("finished", 4)
