"""Decide how many trials share a base, and how large their seats are, before any host starts.

A host's shape depends on the sweep alone (the largest rank, prompt and batch of its spaces) and not on the trials that
happen to be in it, so a trial can be reproduced.
"""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psutil

from sweeps.resources.base_memory import base_bytes
from sweeps.resources.worker_groups import worker_group_shape
from sweeps.spec.largest_config import largest_config
from sweeps.spec.sweep import Sweep
from trainables.bad_input import BadInput
from trainables.packed.specs import Shape, WorkerGroupShape

CPU_SEATS, GPU_SEATS = 4, 32  # of a host: docs/results/packing.md
CPU_LANES, GPU_LANES = 32, 256  # rows of a training batch; a CPU is busy with fewer
RANDOM_TRIALS = 10  # TPE draws these at random; beyond them it learns only if at most a third of all trials run at once
MEMORY_SHARE = 0.6  # of what is free, for seats; the rest is the base, activations and other processes


@dataclass(frozen=True)
class Placement:
    """Where trials run: seats in each host, hosts for each base, and the shape of a host; without a shape, why not."""

    seats: int
    hosts: int
    shape: Shape | None = None
    why: str = ""
    workers: WorkerGroupShape | None = None
    bases: int = 1

    def __str__(self) -> str:
        if self.workers is not None:
            how = self.workers.strategy.upper().replace("AUTO", "DDP, or FSDP where the base does not fit")
            return f"seats: 1, every trial is trained by {self.workers.processes} processes (Ray Train, {how})"
        if self.shape is None:
            return f"seats: 1, every trial has a base of its own{f' ({self.why})' if self.why else ''}"
        trials = f"{self.seats} trials share a base" + (f", on {self.hosts} hosts" if self.hosts > 1 else "")
        side_by_side = f" of each of {self.bases} bases, side by side" if self.bases > 1 else ""
        return f"seats: {self.seats}, {trials}{side_by_side}; {self.why}"


@dataclass(frozen=True)
class Machine:
    """The hardware on which hosts will run, as far as the driver knows it."""

    cores: float = 1
    gpus: float = 0
    free_bytes: float = float("inf")  # of main memory, or of the GPU with the least


def with_devices(sweep: Sweep, gpus: float) -> Sweep:
    """Return the sweep with a GPU for each trial that has a base, or a share if there are more bases than GPUs.

    A number of GPUs or workers that was given stays.
    """
    asked, bases = sweep.resources_per_trial, {pair.base for pair in sweep.pairs if pair.learner.needs_base}
    if not gpus or "gpu" in asked or sweep.num_workers is not None or not bases:
        return sweep
    return dataclasses.replace(sweep, resources_per_trial={**asked, "gpu": 1 / math.ceil(len(bases) / gpus)})


def machine(sweep: Sweep, cores: float, devices: float) -> Machine:
    """Return the machine as hosts see it: seats are in GPU memory if trials ask for GPUs, else in main memory."""
    gpu = sweep.resources_per_trial.get("gpu", 0)
    if gpu:
        return Machine(
            cores, devices * int(1 / gpu + 1e-9) if gpu < 1 else devices // gpu, min(1.0, gpu) * _free_on_gpu()
        )
    return Machine(cores, 0, float(psutil.virtual_memory().available))


def _free_on_gpu() -> float:
    """Return the free bytes of the GPU with the least, from nvidia-smi; infinity without a GPU on this machine."""
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        query.append(f"--id={visible}")
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout
        return min(int(line) for line in said.split()) * 2.0**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return math.inf


def unshareable_learner(sweep: Sweep) -> str | None:
    """Return the first learner that cannot share its base. Raises BadInput if there is one and --seats was given."""
    name = next((pair.learner.name for pair in sweep.pairs if not pair.learner.packs), None)
    if name is not None and sweep.seats not in (1, "auto"):
        raise BadInput(f"--seats {sweep.seats}:", f"learner {name!r} cannot share a base", "use --seats 1")
    return name


def place(sweep: Sweep, machine: Machine) -> Placement:
    """Decide on seats and hosts; `auto` takes as many as the device, its memory and the trials allow.

    Raises BadInput if seats were given and a learner cannot share its base, or if LoRA's targets are not in the base.
    """
    if workers := worker_group_shape(sweep):
        return Placement(1, 1, workers=workers)
    alone = unshareable_learner(sweep)
    if sweep.seats == 1:
        return Placement(1, 1)
    if alone is not None:
        bases = any(pair.learner.needs_base for pair in sweep.pairs)
        return Placement(1, 1, why=f"learner {alone!r} cannot share one" if bases else "")
    if lacking := _too_few(sweep, machine):
        if sweep.seats != "auto" or sweep.hosts != "auto":
            raise BadInput(lacking, remedy="leave --seats and --hosts out, or use --seats 1")
        return Placement(1, 1, why=lacking)
    largest = [largest_config(sweep, pair) for pair in sweep.pairs]
    most_lanes = GPU_LANES if machine.gpus else CPU_LANES
    adapters = [config.adapter() for config in largest]
    rank, prompt = max(a.r for a in adapters), max(a.num_virtual_tokens for a in adapters)
    rows = max(config.rows_per_batch() for config in largest)
    bytes_of = 4.0 * (4 + min(most_lanes, rows))
    needs = [
        BaseNeed(base_bytes(base, bool(machine.gpus)), bytes_of * _parameters(sweep, base, adapters, rank, prompt))
        for base in sorted({pair.base for pair in sweep.pairs})
    ]
    per_seat = max(need.seat for need in needs)
    at_once = sweep.max_concurrent_trials or max(RANDOM_TRIALS, -(-sweep.num_samples // 3))
    trials = -(-min(sweep.num_samples, at_once) // len(needs))  # of each base
    seats, hosts = _counts(sweep, machine, trials, needs)
    if seats == 1:
        return Placement(1, 1, why="one at a time" if trials == 1 else "no memory for more")
    shape = Shape(seats, lanes=max(rows, min(seats * rows, most_lanes)), max_rank=rank, max_prompt=prompt)
    why = f"{per_seat / 2**20:,.1f} MiB a seat: adapter, copies for a batch, optimizer"
    return Placement(seats, hosts, shape, why, bases=len(needs))


def _too_few(sweep: Sweep, machine: Machine) -> str:
    """Return what is missing if not every host can have a core or GPU: Ray would wait for ever. Empty if all can."""
    bases = len({pair.base for pair in sweep.pairs})
    hosts = bases * (1 if sweep.hosts == "auto" else sweep.hosts)
    there = machine.gpus or machine.cores
    if hosts <= there:
        return ""
    kind = "shares of a GPU of the requested size" if machine.gpus else "cores"
    return f"{hosts} hosts of {bases} base{'s' * (bases > 1)} need one each of {there:g} {kind}"


class BaseNeed(NamedTuple):
    """The bytes that a host needs for its base, and for each seat."""

    weights: float
    seat: float


def _counts(sweep: Sweep, machine: Machine, trials: int, needs: Sequence[BaseNeed]) -> tuple[int, int]:
    """Return the seats of a host and the hosts of a base. `trials`: those of each base that may run at once."""
    seats = min(GPU_SEATS if machine.gpus else CPU_SEATS, trials) if sweep.seats == "auto" else sweep.seats
    if sweep.hosts != "auto":
        hosts = sweep.hosts
    else:
        devices = machine.gpus or machine.cores
        hosts = min(int(devices // len(needs)), -(-trials // seats))
    if sweep.seats != "auto":
        return seats, hosts

    def fitting(hosts: int) -> int:
        if machine.gpus:  # each host has its own
            room = min(MEMORY_SHARE * max(0.0, machine.free_bytes - need.weights) / need.seat for need in needs)
        else:  # all hosts share main memory
            left = machine.free_bytes / hosts - sum(need.weights for need in needs)
            room = MEMORY_SHARE * max(0.0, left) / sum(need.seat for need in needs)
        return max(1, int(min(seats, room, -(-trials // hosts))))

    fewest = 1 if sweep.hosts == "auto" and not machine.gpus else hosts  # copies of a base that share main memory
    hosts = next((count for count in range(hosts, fewest, -1) if fitting(count) > 1), fewest)
    return fitting(hosts), hosts


def _parameters(sweep: Sweep, base: str, adapters: Sequence[Any], rank: int, prompt: int) -> int:
    """Return the parameters of one seat: those of the modules that any pair on this base adapts, at the largest rank.

    This reads only the base's configuration. In float32 a parameter takes 4 bytes for each of: its value, its gradient,
    two moments, and the copy that each lane of a training batch holds until its gradient is known.
    """
    from trainables.models.loading import UnknownBase, base_sizes

    own = [a for pair, a in zip(sweep.pairs, adapters, strict=True) if pair.base == base]
    try:
        hidden, projections, _ = base_sizes(base, tuple(sorted({name for a in own for name in a.target_modules})))
        if any(a.r and not a.target_modules for a in own):
            projections = max(projections, base_sizes(base, None)[1])
    except UnknownBase as error:
        raise BadInput(str(error)) from error
    return prompt * hidden + rank * projections
