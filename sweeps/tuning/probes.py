"""Run `probe.py` for the pairs of a sweep, in processes of their own."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from typing import Any

from sweeps.persistence.provenance import python_path
from sweeps.spec.sweep import BadInput, Sweep
from sweeps.tuning.probe import ProbeJob

PROBE_TIMEOUT_S = 900
PROBES_S = 24.0  # for the measurements of all learners; starting Python and loading a base come on top


def probe(sweep: Sweep, threads: int) -> list[dict[str, Any]]:
    """Measure each pair's default, in the order of the pairs; see `probe.measure` for the values.

    Pairs that share a base are measured in one process, which loads it once. Raises BadInput when a probe fails.
    """
    places: dict[str | int, list[int]] = {}  # by base, or alone
    for index, pair in enumerate(sweep.pairs):
        places.setdefault(pair.base if pair.learner.packs else index, []).append(index)
    costs: dict[int, dict[str, Any]] = {}
    for own in places.values():
        job = ProbeJob([sweep.pairs[i] for i in own], sweep.seed, PROBES_S / len(sweep.pairs))
        costs |= zip(own, _run(sweep, job, threads), strict=True)
    return [costs[index] for index in range(len(sweep.pairs))]


def _run(sweep: Sweep, job: ProbeJob, threads: int) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.tuning.probe"],
        input=pickle.dumps(job),
        capture_output=True,
        timeout=PROBE_TIMEOUT_S,
        env=_environment(sweep, threads),
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode().strip().splitlines()[-1:]
        names = ", ".join(repr(pair.name) for pair in job.pairs)
        raise BadInput(f"the probe of {names} failed: {''.join(last)}")
    return json.loads(done.stdout.decode().splitlines()[-1])


def _environment(sweep: Sweep, threads: int) -> dict[str, str]:
    """Return the environment of a trial's process: without a GPU in its resources it sees none."""
    unseen = {} if sweep.resources_per_trial.get("gpu") else {"CUDA_VISIBLE_DEVICES": ""}
    return os.environ | {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": str(threads)} | unseen
