"""What a sweep takes of the disk: no more than `--plan` says, and next to nothing when it is over."""

from __future__ import annotations

import contextlib
import multiprocessing
import re
from pathlib import Path

from sweeps.results.run_folder import Run
from tests.support.driving import kill, press_ctrl_c, start, sweep_here, wait_for

HEAVY = Path(__file__).parents[1] / "support/heavy_sweep.py"
MIB = 2**20


def bytes_in(folder):
    found = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            found += file.stat().st_size if file.is_file() else 0
    return found


def watch(run, peak, over):
    """Find out how large a folder gets. It runs in a process of its own: the driver leaves a thread little time."""
    while not over.wait(0.05):
        peak.value = max(peak.value, bytes_in(run))


def checkpoints_in(run):
    return [folder.parent.name for folder in run.glob("tune/*/checkpoint_*")]


def test_a_sweep_never_takes_more_than_its_plan_says(tmp_path, ray_session):
    """Two rungs, and checkpoints of a megabyte, where the default's has one byte. Ctrl-C and --resume in between."""
    planned = sweep_here(tmp_path, "--plan", script=HEAVY).stdout
    most = int(re.search(r"(\d+) MiB of disk at most", planned).group(1))
    run, spawn = tmp_path / "runs/heavy", multiprocessing.get_context("spawn")
    peak, over = spawn.Value("q", 0), spawn.Event()

    def press(printed):
        wait_for(lambda: printed().count("paused") >= 6)
        press_ctrl_c()

    watching = spawn.Process(target=watch, args=(run, peak, over))
    watching.start()
    try:
        assert sweep_here(tmp_path, script=HEAVY, check=False, meanwhile=press).returncode == 130
        sweep_here(tmp_path, "--name", "heavy", "--resume", script=HEAVY, report=True)
    finally:
        over.set()
        watching.join()
    assert 8 * MIB < peak.value <= most * MIB
    best = max(Run.read(run).records, key=lambda one: (one.score, -one.number))
    assert checkpoints_in(run) == [best.trial_id], "all others are gone"


def test_what_a_killed_driver_needs_is_there_and_what_it_left_goes(tmp_path, ray_session):
    """Trials that had ended keep no checkpoint but the best one's; those under way go on from theirs."""
    driver, flags, log = start(tmp_path, "--name", "kill", rounds=11)
    kill(driver)
    run = tmp_path / "runs/kill"
    assert checkpoints_in(run)
    left = run / "tune" / Run.read(run).records[0].trial_id
    assert Run.read(run).records[0].status == "finished"
    (left / "checkpoint_000009").mkdir(exist_ok=True)  # as if the driver had been killed while it deleted it
    sweep_here(tmp_path, *flags, "--resume")
    best = max(Run.read(run).records, key=lambda one: (one.score, -one.number))
    assert checkpoints_in(run) == [best.trial_id]
    rounds = log.read_text().splitlines()
    assert len(rounds) - len(set(rounds)) <= 2, "only rounds that the kill cut short were run again"
