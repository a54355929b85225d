"""Finalists are trained again in Tune, or fail there; the untouched base is measured with a trial's device."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import ray

from sweeps.report.headline import headline
from sweeps.results.confirmation import Confirmation
from sweeps.results.records import UNTOUCHED, Candidate, Final
from sweeps.results.run_folder import Run
from sweeps.results.tables import FINALISTS
from sweeps.results.trial_params import TrialParams
from sweeps.tuning import confirmation
from sweeps.tuning.confirmation import Finalists, confirm
from sweeps.tuning.finalists import TrialPlaces, measure_bases, measured
from sweeps.tuning.recorder import Recorder
from tests.support.device_kit import Asked
from tests.support.knobs import ONE
from tests.support.report_kit import folder, page, questions, several
from tests.support.toy_sweep import SWEEP as TOY
from tests.support.toys import Letters
from trainables.core import Pair
from trainables.runtime.trial import ADAPTER_FOLDER, STATE_FILE


def candidate(number, **fields):
    return Candidate(f"t{number}", f"trial {number}", TrialParams("toy", {"quality": 0.5, **fields}), 2, 0.5)


def test_measuring_has_the_device_that_a_trial_has():
    code = "from tests.support.device_kit import told; told()"
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment | {"PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("devices:")] == ["devices: none", "devices: 0"]


def test_a_device_that_does_not_come_is_not_waited_for_without_end(ray_session, capsys):
    sweep = replace(ONE, pairs=(Pair(Asked(), Letters(), "builtin:tiny"),), resources_per_trial={"gpu": 99.0})
    waiting = measure_bases(sweep, {}, None)["knob"]
    assert measured(waiting, 0.5) == {}
    assert "not measured within 0.5 s: `ray status`" in capsys.readouterr().out
    ray.cancel(waiting)


def test_what_finalists_leave_is_what_can_be_wanted(ray_session, tmp_path, monkeypatch):
    """Two seeds of a megabyte are trained, and one is asked further; what a killed driver left goes. Of large states
    only the first seed's adapter stays."""
    left = tmp_path / "finalists/killed/checkpoint_000000"
    left.mkdir(parents=True)
    toy = candidate(0, bytes=10**6)

    def trained():
        return Finalists(replace(TOY, rounds=1), TrialPlaces({}, None, 2), tmp_path, {"trial 0": toy})

    def sizes():
        found = (folder / STATE_FILE for folder in tmp_path.glob("finalists/*/checkpoint_*"))
        return sorted(file.stat().st_size for file in found if file.is_file())

    monkeypatch.setattr(confirmation, "go_on", lambda finalists, *_: finalists)
    finalists = confirm(trained(), [], print)
    assert not left.exists()
    assert finalists.extend({"trial 0": (2, 20)})
    assert sizes() == [10**6, 10**6]
    finalists.answers["trial 0"][0] = replace(finalists.answers["trial 0"][0], items=(1.0,) * 10)
    assert finalists.extend({"trial 0": (1, 20)})
    assert len(finalists.answers["trial 0"][0].items) == 20
    assert sizes() == [0, 10**6, 10**6], "asking writes no state again"

    monkeypatch.setattr("sweeps.tuning.finalists.LARGEST_STATE", 1000)
    large = confirm(trained(), [], print)
    assert large.extend({"trial 0": (2, 20)})
    assert [one.state for one in large.answers["trial 0"]] == ["", ""]
    assert sizes() == []
    (adapter,) = tmp_path.glob(f"finalists/*/checkpoint_*/{ADAPTER_FOLDER}")
    assert adapter.parent == Path(large.checkpoints["t0"].path), "the first seed's"


def test_where_no_finalist_finishes_it_is_said_and_the_base_is_none(ray_session, tmp_path):
    """Two finalists are trained again, of which one fails and one diverges."""
    chosen = {one.name: one for one in (candidate(0, planted="error"), candidate(1, planted="nan"))}
    confirmed = confirm(Finalists(replace(TOY, rounds=2), TrialPlaces({}, None, 2), tmp_path, chosen), [], print)
    lost = confirmed.lost
    assert confirmed.finals == []
    assert sorted(lost) == ["trial 0", "trial 1"]
    assert lost["trial 0"].startswith("failed (RuntimeError: planted) with seed ")
    assert lost["trial 1"].startswith("diverged with seed ")

    asked = questions()
    base = Final(UNTOUCHED, None, np.ones((1, len(asked))))
    recorder = Recorder(folder(tmp_path / "run", several()), TOY, {})
    recorder.records = {one.trial_id: one for one in several()}
    recorder.confirm(Confirmation([base], lost=lost, trivial={"chance": 0.1}), {}, asked)
    assert not (tmp_path / "run" / FINALISTS).exists(), "where it lies, --resume takes the rest for done"
    told = f"No finalist finished, so nothing is confirmed: trial 0 {lost['trial 0']}; trial 1 {lost['trial 1']}"
    board = (tmp_path / "run/leaderboard.md").read_text()
    assert told in board
    said = headline(Run.read(tmp_path / "run"))
    assert "has the best search score" in said
    assert said.endswith(f"{told}. --resume trains them again.")
    assert "RuntimeError: planted" in page(tmp_path / "run")
    assert UNTOUCHED not in board.lower()
