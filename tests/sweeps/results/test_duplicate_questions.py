"""Questions that share a key count once: in the search's intervals as in the finalists', and in what a split shows."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from sweeps.results.leaderboard import rank, verdict
from sweeps.results.records import TrialRecord
from sweeps.results.run_folder import Run
from sweeps.results.search_comparison import against_trivial
from sweeps.results.statistics import smallest_difference, wilson
from sweeps.results.trial_params import TrialParams
from sweeps.spec.open_run import Job
from sweeps.tuning.recorder import Recorder
from tests.support.knobs import ONE, Knob
from tests.support.report_kit import folder
from tests.support.towns import Towns
from tests.support.toys import Letters
from trainables.checks.guards import inspect
from trainables.core import Pair

COPIES = 3


class Repeated(Letters):
    """Every question three times, in other words perhaps."""

    def search(self):
        return tuple(one for one in super().search() for _ in range(COPIES))


def recorded(path, task):
    """The record of a trial that answers half of twenty letters, copies alike."""
    recorder = Recorder(folder(path, [], end=False), replace(ONE, pairs=(Pair(Knob(), task),)), {"constant": 0.3})
    trial = SimpleNamespace(trial_id="t0", config={"params": TrialParams("knob", {"rate": 0.1})})
    recorder.on_trial_start(0, [], trial)
    items = [float(one.answer in "abcdefghij") for one in task.search()]
    result = {"training_iteration": 1, "score": 0.5, "loss": 1.0, "seconds": 1.0, "items": items}
    recorder.on_trial_result(0, [], trial, result)
    recorder.write()
    return recorder.records["t0"]


def test_copies_count_once_in_the_intervals_of_the_search(tmp_path):
    once, thrice = recorded(tmp_path / "once", Letters(20)), recorded(tmp_path / "thrice", Repeated(20))
    assert once.interval() == wilson(10, 20)
    assert thrice.interval() == pytest.approx(wilson(10, 20), abs=0.02)
    assert (thrice.n_items, thrice.independent, once.independent) == (60, 20, 20)
    for record in (once, thrice):
        shows = f"n=20 shows differences from {100 * smallest_difference(20):.0f} points"
        assert verdict(rank([record]), {})[0].startswith(shows)
        assert against_trivial([record], {"constant": 0.3})[2] is False


def test_copies_are_known_where_a_sweep_is_read_back(tmp_path):
    record = recorded(tmp_path / "run", Repeated(20))
    (read,) = Run.read(tmp_path / "run").records
    assert read.clusters == record.clusters
    assert read.interval() == record.interval()
    assert Job(read, 0, 1, "search", 0.5, read.items).interval == record.interval(), (
        "what `espalier reproduce` holds a score against"
    )


def test_scores_of_other_things_than_the_examples_have_no_copies(tmp_path):
    recorder = Recorder(folder(tmp_path / "run", []), replace(ONE, pairs=(Pair(Knob(), Repeated(20)),)), {})
    trial = SimpleNamespace(trial_id="t0", config={"params": TrialParams("knob", {"rate": 0.1})})
    recorder.on_trial_start(0, [], trial)
    recorder.on_trial_result(0, [], trial, {"training_iteration": 1, "score": 1.0, "loss": 1.0, "items": [1.0] * 7})
    record: TrialRecord = recorder.records["t0"]
    assert record.interval() == wilson(7, 7)


def test_a_split_of_copies_is_small():
    towns = Towns()
    few = [one for one in towns.search()[:24] for _ in range(4)]
    found = {one.what for one in inspect(towns.with_split("search", few), smallest_difference)}
    shows = f"which show differences from {100 * smallest_difference(24):.0f} points up"
    assert any(what.startswith(f"search has 96 examples (24 independent), {shows}") for what in found)
