"""Which failures count as the same; and which sweep is the latest."""

from __future__ import annotations

import os
import time

import pytest
import yaml
from ray.exceptions import ActorDiedError

from sweeps.commands.which_sweep import latest
from sweeps.spec.open_run import open_run
from sweeps.tuning.stopping import SweepStopper, cause_of
from tests.support.facts_kit import least_facts
from tests.support.failed_trial import FailedTrial
from trainables.bad_input import BadInput


def test_only_failures_of_their_own_count_and_only_in_a_row(tmp_path):
    def cause(*failures, well_after=None):
        stops = SweepStopper(tmp_path, 4)
        for number, (trial_id, error) in enumerate(failures):
            stops.on_trial_recover(0, [], FailedTrial(tmp_path, trial_id, error))
            if number == well_after:
                stops.on_trial_complete(0, [], None)
        return stops.cause

    rank = [("a", ValueError("rank 8 is bad")), ("b", ValueError("rank 9 is bad")), ("a", ValueError("rank 8 is bad"))]
    assert cause(*rank) == "ValueError: rank 8 is bad"
    assert cause(*rank[:2]) is None
    assert cause(*rank, well_after=1) is None, "one ended well in between"
    assert cause(*rank[:2], ("c", ValueError("another"))) is None
    assert cause(*[("a", ValueError("rank 8 is bad"))] * 4) is None, "a single trial may be odd"
    assert cause(*[(name, ActorDiedError()) for name in "abcd"]) is None, "a node that dies takes all its trials along"


def test_the_latest_sweep_is_found(tmp_path):
    with pytest.raises(BadInput, match="has no sweep; start one"):
        latest(tmp_path)
    for age, name in ((20, "b"), (10, "c"), (30, "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sweep.yaml").write_text(yaml.safe_dump(least_facts()))
        os.utime(tmp_path / name / "sweep.yaml", (time.time() - age,) * 2)
    assert latest(tmp_path).name == "c"
    for age, phase in ((5, "d-cot"), (6, "d-sft")):  # a chain's phases
        (tmp_path / "d" / phase).mkdir(parents=True)
        (tmp_path / "d" / phase / "sweep.yaml").write_text(yaml.safe_dump(least_facts()))
        os.utime(tmp_path / "d" / phase / "sweep.yaml", (time.time() - age,) * 2)
    assert latest(tmp_path).name == open_run(tmp_path / "d").folder.name == "d-cot"
    with pytest.raises(BadInput, match=r"no sweep.yaml in it; .* has none; start one"):
        open_run(tmp_path / "b" / "nowhere")


def test_a_cause_is_one_line():
    assert cause_of(RuntimeError("planted\nwith details")) == "RuntimeError: planted"
    wrapped = Exception("a long trace")
    wrapped.cause = ValueError("bad rank 8")
    assert cause_of(wrapped) == "ValueError: bad rank 8"
