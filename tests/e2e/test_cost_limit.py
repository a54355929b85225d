"""--max-cost ends trials and finalists that are at work, as Ctrl-C does, and a higher limit goes on."""

from __future__ import annotations

import subprocess
from collections import Counter

from optuna.trial import TrialState

from sweeps.resources import cost_limit
from tests.support.driving import SCRIPT, start, study, sweep_here

# A sweep on machines whose price per hour stands in a file; without the machines.
PRICED = f"""
import runpy, sys
from pathlib import Path
sys.path.insert(0, {str(SCRIPT.parents[2])!r})
from cluster.prices import UnknownPrice
from sweeps.resources import cost_limit

def rate():
    word = Path("price").read_text()
    if word == "unknown":
        raise UnknownPrice("the price of pod001 is not known")
    return float(word)

cost_limit.cost_limit_of = lambda autoscaler, limit: cost_limit.CostLimit(rate, limit, every_s=0.1)
sys.argv[0] = {str(SCRIPT)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def priced(folder):
    script = folder / "priced.py"
    script.write_text(PRICED)
    (folder / "price").write_text("0.001")
    return script


def test_trials_at_work_end_when_the_limit_is_reached_and_a_higher_one_goes_on(tmp_path, ray_session, monkeypatch):
    """From the third round on a second costs a dollar."""
    driver, flags, log = start(
        tmp_path, "--max-cost", "1.0", "--rounds", "12", "--grace-period", "12", "--num-samples", "2", rounds=3,
        stdout=subprocess.PIPE, script=priced(tmp_path),
    )  # fmt: skip
    (tmp_path / "price").write_text("3600")
    said = driver.communicate(timeout=300)[0]
    assert driver.returncode == 130, said
    assert "--max-cost 1.0: 1." in said
    assert "the sweep ends as after Ctrl-C; go on with a higher limit" in said
    assert "--name toy --resume" in said
    assert "Traceback" not in said
    before = Counter(log.read_text().split("\n"))
    assert len(before) < 12, "the trials were not waited for"
    higher = [flag if flag != "1.0" else "1000" for flag in flags]
    monkeypatch.setattr(cost_limit, "cost_limit_of", cost_limit.cost_limit_of)  # restored after it
    sweep_here(tmp_path, *higher, "--name", "toy", "--resume", script=priced(tmp_path))
    assert [trial.state for trial in study(tmp_path).trials] == [TrialState.COMPLETE] * 2
    after = Counter(log.read_text().split("\n"))
    assert sum(after.values()) - len(after) <= 2, "no round was repeated but the one that each trial was in"


def test_a_price_that_becomes_unknown_ends_the_trials(tmp_path):
    driver, *_ = start(
        tmp_path, "--max-cost", "1000", "--rounds", "12", rounds=3, stdout=subprocess.PIPE, script=priced(tmp_path)
    )
    (tmp_path / "price").write_text("unknown")
    said = driver.communicate(timeout=300)[0]
    assert driver.returncode == 130, said
    assert "--max-cost 1000.0: the price of pod001 is not known, and the sweep ends as after Ctrl-C" in said


def test_finalists_end_when_the_limit_is_reached(tmp_path):
    driver, *_ = start(
        tmp_path, "--max-cost", "1.0", "--num-samples", "2", "--finalists", "2", rounds=8,
        stdout=subprocess.PIPE, script=priced(tmp_path),
    )  # fmt: skip
    said = ""
    while " questions\n" not in said and driver.poll() is None:
        said += driver.stdout.readline()
    (tmp_path / "price").write_text("3600")
    said += driver.communicate(timeout=300)[0]
    assert driver.returncode == 130, said
    assert "the sweep ends as after Ctrl-C; go on with a higher limit" in said
    assert not (tmp_path / "runs/toy/finalists.parquet").exists()
