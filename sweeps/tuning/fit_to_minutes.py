"""Measure the pairs of a sweep, and choose its sizes for `--minutes`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sweeps.resources.placement import machine, place
from sweeps.resources.ray_cluster import Capacity
from sweeps.results.terminal import print
from sweeps.spec.sweep import Sweep
from sweeps.tuning.design import FIELDS, Costs, Design, costs_of, design, in_words, lanes_of, lanes_of_base
from sweeps.tuning.probes import probe
from sweeps.tuning.runner import threads_per_process, trials_at_once
from trainables.core import Task


def fit_to_minutes(sweep: Sweep, capacity: Capacity, seconds: float, argv: Sequence[str]) -> Design:
    """Return a design for a sweep that has so many seconds left, probe included, and print it.

    What the command line gives stays. Raises BadInput if a probe fails or there is no design.
    """
    start = time.monotonic()
    placement = place(sweep, machine(sweep, capacity.cores, capacity.gpus))
    threads = threads_per_process(sweep, placement, capacity)
    print(f"--minutes {sweep.minutes:g}: measuring a part of a round of each learner", flush=True)
    at_once = trials_at_once(sweep, placement, capacity) or capacity.trials(sweep.resources_per_trial)
    beside = lanes_of_base(placement, at_once)
    probes = _probe_on_cluster(sweep, threads) if capacity.nodes > 1 else probe(sweep, threads, beside)
    costs = costs_of(sweep, probes, lanes_of(placement, at_once))
    return choose_design(sweep, costs, seconds - (time.monotonic() - start), argv)


def choose_design(sweep: Sweep, costs: Costs, seconds: float, argv: Sequence[str]) -> Design:
    """Return a design for so many seconds that keeps what the command line gives, and print it."""
    fixed = fixed_by(argv, sweep.pairs[0].task)
    found = design(sweep, costs, seconds, fixed)
    print("\n".join(in_words(sweep, found, costs, seconds, fixed)), flush=True)
    return found


def fixed_by(argv: Sequence[str], task: Task) -> set[str]:
    """Return which of `design.FIELDS` a command line gives."""
    given = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in argv if word.startswith("--")}
    sizes = {f"task.{task.search_limit}": "search_size", f"task.{task.test_limit}": "test_size"}
    return {name for name in FIELDS if name in given} | {name for flag, name in sizes.items() if flag in given}


def _probe_on_cluster(sweep: Sweep, threads: int) -> list[dict[str, Any]]:
    """Measure on a node that trials may run on: one with a GPU where they ask for it."""
    import ray

    gpus = sweep.resources_per_trial.get("gpu", 0)
    return ray.get(ray.remote(num_cpus=0, num_gpus=gpus)(_probe_there).remote(sweep, threads))


def _probe_there(sweep: Sweep, threads: int) -> list[dict[str, Any]]:
    from trainables.runtime.base_transfer import fetch_base

    for base in sweep.bases():
        fetch_base(base)
    return probe(sweep, threads, side_by_side=1)
