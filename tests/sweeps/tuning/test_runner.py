"""Decisions of a run, without Ray: how many trials run at once, whether a search is complete, who is trained again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sweeps.resources.placement import Placement
from sweeps.resources.ray_cluster import Capacity
from sweeps.results.records import Final, TrialRecord
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.runner import (
    SearchEnd,
    due_finalists,
    is_incomplete,
    threads_per_process,
    trials_at_once,
    workers_of,
)
from tests.support.toy_sweep import SWEEP as TOY
from trainables.packed.specs import Shape, WorkerGroupShape

ALONE, SHARED = Placement(1, 1), Placement(4, 2, Shape(seats=4))
ONE_NODE, THREE_NODES = Capacity(8, 0, 8), Capacity(24, 0, 8, nodes=3)
WORKER_GROUP = Placement(1, 1, workers=WorkerGroupShape(2, 3.0, 1.0))
TWO_CORES = replace(TOY, resources_per_trial={"cpu": 2}, max_concurrent_trials=None)


@pytest.mark.parametrize(
    ("placement", "capacity", "limit", "expected"),
    [
        (ALONE, ONE_NODE, None, None),  # Ray counts the cores that trials ask for
        (ALONE, ONE_NODE, 3, 3),
        (SHARED, ONE_NODE, None, 4 * 2),  # a trial for each seat
        (SHARED, ONE_NODE, 3, 3),
        (SHARED, ONE_NODE, 30, 8),
        (ALONE, THREE_NODES, None, 24 // 2),  # their own processes ask Ray for nothing
        (ALONE, THREE_NODES, 3, 3),
        (WORKER_GROUP, ONE_NODE, None, 8 // 2),
        (SHARED, THREE_NODES, None, 4 * 2),
    ],
)
def test_trials_run_at_once_where_seats_and_cores_allow(placement, capacity, limit, expected):
    assert trials_at_once(replace(TWO_CORES, max_concurrent_trials=limit), placement, capacity) == expected


def test_only_trials_without_a_host_on_several_nodes_get_a_worker_process():
    assert workers_of(TWO_CORES, ALONE, ONE_NODE) is None
    assert workers_of(TWO_CORES, SHARED, THREE_NODES) is None
    assert workers_of(TWO_CORES, ALONE, THREE_NODES) == WorkerGroupShape(1, 2, 0)
    assert workers_of(TWO_CORES, WORKER_GROUP, ONE_NODE) == WORKER_GROUP.workers


def test_hosts_share_the_cores_and_none_spans_two_nodes():
    assert threads_per_process(TWO_CORES, ALONE, ONE_NODE) == 2
    assert threads_per_process(TWO_CORES, WORKER_GROUP, ONE_NODE) == 3
    assert threads_per_process(TWO_CORES, SHARED, ONE_NODE) == 8 // 2
    assert threads_per_process(TWO_CORES, SHARED, THREE_NODES) == 8, "12 cores of a host's share are on two nodes"


def record(number, status="finished", score=0.5):
    row = {"round": 1, "score": score, "loss": 1.0, "diverged": False, "time_s": 1.0, "seconds": 1.0, "at": 1.0}
    params = {"quality": score, "planted": "nothing"}
    return TrialRecord(f"t{number}", number, TrialParams("toy", params), status, TrialHistory((row,)), n_items=10)


def test_a_search_is_complete_when_every_trial_has_ended():
    ended = [record(0), record(1, "pruned"), record(2, "failed")]
    assert not is_incomplete(["TERMINATED", "TERMINATED", "ERROR"], ended, 3)
    assert is_incomplete(["TERMINATED", "TERMINATED"], ended[:2], 3), "one was never started"
    assert is_incomplete(["TERMINATED", "TERMINATED", "RUNNING"], ended, 3)
    cut = [*ended[:2], record(2, "interrupted")]
    assert is_incomplete(["TERMINATED"] * 3, cut, 3), "Tune says TERMINATED of trials that it broke off, too"


def test_finalists_are_due_once_and_only_after_a_whole_search():
    records, sweep = [record(0, score=0.2), record(1, score=0.9)], replace(TOY, finalists=1)
    chosen = due_finalists(sweep, records, SearchEnd([]), [])
    assert chosen[0].trial_id == "t1"
    assert due_finalists(replace(sweep, finalists=0), records, SearchEnd([]), []) == []
    assert due_finalists(sweep, records, SearchEnd([], interrupted=True), []) == []
    assert due_finalists(sweep, records, SearchEnd([], over_budget=True), []) == [], "--resume continues the search"
    assert due_finalists(sweep, records, SearchEnd([]), [Final("trial 1", 0.9, np.ones((1, 3)), "t1")]) == []
    assert due_finalists(sweep, [], SearchEnd([]), []) == []
