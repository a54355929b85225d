"""`--resume --num-samples N`: when it adds trials, and when it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from sweeps.persistence.more_trials import asks_for_more, keep
from sweeps.results.confirmation import Confirmation
from sweeps.results.records import Final, TrialRecord
from sweeps.results.run_folder import SWEEP_FILE, Run
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from tests.support.toy_sweep import SWEEP
from trainables.bad_input import BadInput

FINALS = [Final("trial 0", 0.9, np.ones((1, 3)), "t0")]


def left(folder: Path, trials: int, ended: bool = True, **known: object) -> Run:
    """A sweep of six trials as it was left after so many."""
    run = Run(folder, {"sweep": replace(SWEEP, num_samples=6).to_dict()}, {"interrupted": False} if ended else {})
    records = [TrialRecord(f"t{i}", i, TrialParams("toy", {}), "finished", TrialHistory()) for i in range(trials)]
    vars(run)["records"], vars(run)["confirmation"] = records, Confirmation(FINALS, **known)
    return run


def test_it_is_refused_unless_it_is_more_than_there_are(tmp_path: Path) -> None:
    for trials, asked, more in ((6, 6, False), (6, 7, True), (4, 5, True), (4, 6, False)):
        assert asks_for_more(replace(SWEEP, num_samples=asked), left(tmp_path, trials)) == more
    for trials, asked in ((6, 5), (4, 4)):
        with pytest.raises(
            BadInput, match=rf"^--num-samples {asked}: \S+ has {trials} trials; give more than {trials}"
        ):
            asks_for_more(replace(SWEEP, num_samples=asked), left(tmp_path, trials))


def test_an_interrupted_search_may_get_more_but_a_smaller_number_is_another_sweep(tmp_path: Path) -> None:
    assert asks_for_more(replace(SWEEP, num_samples=9), left(tmp_path, 2, ended=False))
    assert not asks_for_more(replace(SWEEP, num_samples=4), left(tmp_path, 2, ended=False)), "`check_same` refuses it"


def test_how_many_trials_there_were_at_a_look_is_kept_once(tmp_path: Path) -> None:
    """Also if the driver was killed in between, and the same is asked again, or still more."""
    run = left(tmp_path, 4)
    for asked in (8, 9):
        keep(run, replace(SWEEP, num_samples=asked, all_trials=True), ["script.py"])
        facts = yaml.safe_load((tmp_path / SWEEP_FILE).read_text())
        assert facts["more_trials"] == [4]
        assert facts["sweep"]["num_samples"] == asked
        run = replace(left(tmp_path, 4), facts=facts)
        vars(run)["records"], vars(run)["confirmation"] = left(tmp_path, 4).records, Confirmation(FINALS)
    assert not run.is_look_due, "no trial has come"
    further = left(tmp_path, 9)
    vars(run)["records"] = further.records
    assert run.is_look_due
    vars(run)["confirmation"] = Confirmation(FINALS, look=2)
    assert not run.is_look_due, "it was taken"
    keep(run, replace(SWEEP, num_samples=12), ["script.py"])
    assert yaml.safe_load((tmp_path / SWEEP_FILE).read_text())["more_trials"] == [4, 9]
