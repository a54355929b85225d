"""--max-cost ends trials and finalists that are at work, as Ctrl-C does, and a higher limit goes on."""

from __future__ import annotations

from collections import Counter

import pytest
from optuna.trial import TrialState

from sweeps.resources import cost_limit
from tests.support.driving import SCRIPT, rounds_in, slow, study, sweep_here, wait_for

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


@pytest.fixture
def priced(tmp_path, ray_session, monkeypatch):
    """A function that runs such a sweep, whose price changes after so many rounds: what it printed, and its log."""
    monkeypatch.setattr(cost_limit, "cost_limit_of", cost_limit.cost_limit_of)  # restored after it
    script, price = tmp_path / "priced.py", tmp_path / "price"
    script.write_text(PRICED)

    def run(*more, after, becomes="0.001", ends=3):
        flags, log = slow(tmp_path, *more)
        price.write_text("0.001")

        def change(printed):
            wait_for(lambda: rounds_in(log) >= after)
            price.write_text(becomes)

        done = sweep_here(tmp_path, *flags, script=script, check=False, meanwhile=change)
        assert done.returncode == ends, done.stdout + done.stderr
        return done.stdout + done.stderr, log

    return run


TWELVE = ["--rounds", "12", "--grace-period", "12"]


def test_trials_at_work_end_when_the_limit_is_reached_and_a_higher_one_goes_on(tmp_path, priced):
    """From the third round on a second costs a dollar."""
    said, log = priced("--max-cost", "1.0", *TWELVE, "--num-samples", "2", after=3, becomes="3600")
    assert "--max-cost 1.0: 1." in said
    assert "the sweep ends as after Ctrl-C; go on with a higher limit" in said
    assert "--name toy --resume" in said
    assert "Traceback" not in said
    before = Counter(log.read_text().split("\n"))
    assert len(before) < 12, "the trials were not waited for"
    again = ["--name", "toy", "--resume"]
    priced("--max-cost", "1000", *TWELVE, "--num-samples", "2", *again, after=3, ends=0)
    assert [trial.state for trial in study(tmp_path).trials] == [TrialState.COMPLETE] * 2
    after = Counter(log.read_text().split("\n"))
    assert sum(after.values()) - len(after) <= 2, "no round was repeated but the one that each trial was in"


def test_a_price_that_becomes_unknown_ends_the_trials(priced):
    said, _ = priced("--max-cost", "1000", "--rounds", "12", after=3, becomes="unknown")
    assert "--max-cost 1000.0: the price of pod001 is not known, and the sweep ends as after Ctrl-C" in said


def test_finalists_end_when_the_limit_is_reached(tmp_path, priced):
    """Which are at work: eight rounds are the search's."""
    said, _ = priced("--max-cost", "1.0", "--num-samples", "2", "--finalists", "2", after=9, becomes="3600")
    assert "finalists: 2 configurations, trained again" in said
    assert "the sweep ends as after Ctrl-C; go on with a higher limit" in said
    assert not (tmp_path / "runs/toy/finalists.parquet").exists()
