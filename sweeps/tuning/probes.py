"""Run `probe.py` for the pairs of a sweep, in processes of their own.

On CPUs as many processes measure at the same time as trials will run side by side: two that share memory and the units
of a core are slower than one alone.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from statistics import fmean
from typing import Any

from sweeps.persistence.number_variables import OF_THREADS
from sweeps.persistence.provenance import python_path
from sweeps.spec.largest_config import largest_weights
from sweeps.spec.sweep import Sweep
from sweeps.tuning.probe import ProbeJob
from trainables.bad_input import BadInput

PROBE_TIMEOUT_S = 900
PROBES_S = 24.0  # for the measurements of all learners; starting Python and loading a base come on top


def probe(sweep: Sweep, threads: int, side_by_side: int) -> list[dict[str, Any]]:
    """Measure each pair's default, in the order of the pairs; see `probe.measure` for the values.

    `side_by_side` processes will train at the same time, of so many threads. Pairs that share a base are measured in
    one process, which loads it once. Raises BadInput when a probe fails.
    """
    places: dict[str | int, list[int]] = {}  # by base, or alone
    for index, pair in enumerate(sweep.pairs):
        places.setdefault(pair.base if pair.learner.packs else index, []).append(index)
    costs: dict[int, dict[str, Any]] = {}
    for own in places.values():
        pairs = [sweep.pairs[i] for i in own]
        largest = [replace(pair, learner=largest_weights(sweep, pair)) for pair in pairs]
        job = ProbeJob(pairs, largest, sweep.seed, PROBES_S / len(sweep.pairs))
        count = 1 if sweep.resources_per_trial.get("gpu") else side_by_side
        costs |= zip(own, _run(sweep, job, threads, count), strict=True)
    return [costs[index] for index in range(len(sweep.pairs))]


def _run(sweep: Sweep, job: ProbeJob, threads: int, count: int) -> list[dict[str, Any]]:
    """Run a job in `count` processes at the same time; return the means of what they measure."""
    with ExitStack() as cleanup:
        running = []
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, "-m", "sweeps.tuning.probe"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(sweep, threads),
            )
            cleanup.callback(process.kill)
            running.append(process)
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it has ended already; its status says so
                process.stdin.write(pickle.dumps(job))
                process.stdin.close()
            process.stdin = None  # `communicate` would write to it
        said = [process.communicate(timeout=PROBE_TIMEOUT_S) for process in running]
    for process, (_, errors) in zip(running, said, strict=True):
        if process.returncode:
            names = ", ".join(repr(pair.name) for pair in job.pairs)
            why = errors.decode().strip().splitlines()[-1:] or [f"its process ended with status {process.returncode}"]
            raise BadInput(f"the probe of {names}", f"failed: {why[0]}")
    found = [json.loads(output.decode().splitlines()[-1]) for output, _ in said]
    return [_mean(of_pair) for of_pair in zip(*found, strict=True)]


def _mean(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the first of some costs, with the means of all that are numbers."""
    return {
        name: fmean(one[name] for one in costs) if isinstance(value, int | float) else value
        for name, value in costs[0].items()
    }


def _environment(sweep: Sweep, threads: int) -> dict[str, str]:
    """Return the environment of a trial's process: without a GPU in its resources it sees none."""
    unseen = {} if sweep.resources_per_trial.get("gpu") else {"CUDA_VISIBLE_DEVICES": ""}
    plain = {name: value for name, value in os.environ.items() if name not in OF_THREADS}
    own = {"PYTHONPATH": python_path(), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": str(threads)}
    return plain | own | unseen
