"""How many trials share a base, and how large their seats are: decided by the driver before any host starts.

A host's shape comes from the sweep alone (its spaces' largest rank, prompt and batch), never from who happens to sit in
it, so a trial's numbers can be had again.
"""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from search_spaces.axis import to_entry
from sweeps.resources.worker_groups import team_of
from sweeps.spec.sweep import Sweep
from sweeps.spec.validation import BadInput
from trainables.options import reserved
from trainables.packed.specs import Shape, WorkerGroupShape

CPU_SEATS, GPU_SEATS = 4, 32  # of a host: docs/results/packing.md
CPU_LANES, GPU_LANES = 32, 256  # rows of a training batch; a CPU is busy with fewer
RANDOM_TRIALS = 10  # TPE's first, which learn from nobody; of more, a third at a time, or it learns nothing
MEMORY_SHARE = 0.6  # of what is free, for seats; the rest is the base, activations and other processes


@dataclass(frozen=True)
class Placement:
    """Seats in each host, hosts for each base, and the shape of a host; or why every trial runs by itself, or how."""

    seats: int
    hosts: int
    shape: Shape | None = None
    why: str = ""
    team: WorkerGroupShape | None = None

    def __str__(self) -> str:
        if self.team is not None:
            how = self.team.strategy.upper().replace("AUTO", "DDP, or FSDP where the base does not fit")
            return f"seats: 1, every trial is trained by {self.team.processes} processes (Ray Train, {how})"
        if self.shape is None:
            return f"seats: 1, every trial has a base of its own{f' ({self.why})' if self.why else ''}"
        trials = f"{self.seats} trials share a base" + (f", on {self.hosts} hosts" if self.hosts > 1 else "")
        return f"seats: {self.seats}, {trials}; {self.why}"


@dataclass(frozen=True)
class Machine:
    """What the driver knows of where hosts will run."""

    cores: float = 1
    gpus: float = 0
    free_bytes: float = float("inf")  # of main memory, or of the device with the least


def with_devices(sweep: Sweep, gpus: float) -> Sweep:
    """The sweep on so many GPUs: where nobody has said otherwise, a trial on a base asks for one, or for a share of one
    where there are more bases than GPUs."""
    asked, bases = sweep.resources_per_trial, {pair.base for pair in sweep.pairs if pair.learner.needs_base}
    if not gpus or "gpu" in asked or sweep.num_workers is not None or not bases:
        return sweep
    return dataclasses.replace(sweep, resources_per_trial={**asked, "gpu": 1 / math.ceil(len(bases) / gpus)})


def machine(sweep: Sweep, cores: float, devices: float) -> Machine:
    """This many cores and GPUs. Seats live in a GPU's memory where trials ask for one, else in this main memory."""
    gpu = sweep.resources_per_trial.get("gpu", 0)
    if gpu:
        return Machine(
            cores, devices * int(1 / gpu + 1e-9) if gpu < 1 else devices // gpu, min(1.0, gpu) * _free_on_gpu()
        )
    return Machine(cores, 0, float(psutil.virtual_memory().available))


def _free_on_gpu() -> float:
    """Bytes, of the GPU with the least, as its driver's own tool says; without one here, all is thought to fit."""
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        query.append(f"--id={visible}")
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout
        return min(int(line) for line in said.split()) * 2.0**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return math.inf


def unshareable_learner(sweep: Sweep) -> str | None:
    """The first learner that cannot share its base. Raises BadInput where seats are asked for and there is one."""
    name = next((pair.learner.name for pair in sweep.pairs if not pair.learner.packs), None)
    if name is not None and sweep.seats not in (1, "auto"):
        raise BadInput(f"--seats {sweep.seats}: learner {name!r} cannot share a base; use --seats 1")
    return name


def place(sweep: Sweep, machine: Machine) -> Placement:
    """What `seats` and `hosts` of the sweep come to; `auto` is as many as device, memory and trials allow.

    Raises BadInput where seats are asked for and a learner cannot share its base, or LoRA has no targets in it.
    """
    if team := team_of(sweep):
        return Placement(1, 1, team=team)
    alone = unshareable_learner(sweep)
    if sweep.seats == 1:
        return Placement(1, 1)
    if alone is not None:
        bases = any(pair.learner.needs_base for pair in sweep.pairs)
        return Placement(1, 1, why=f"learner {alone!r} cannot share one" if bases else "")
    if lacking := _too_few(sweep, machine):
        if sweep.seats != "auto" or sweep.hosts != "auto":
            raise BadInput(f"{lacking}; leave --seats and --hosts out, or use --seats 1")
        return Placement(1, 1, why=lacking)
    largest = [_largest(sweep, pair) for pair in sweep.pairs]
    most_lanes = GPU_LANES if machine.gpus else CPU_LANES
    adapters = [config.adapter() for config in largest]
    rank, prompt = max(a.r for a in adapters), max(a.num_virtual_tokens for a in adapters)
    rows = max(config.rows_per_batch() for config in largest)
    parameters = max(_parameters(sweep, base, adapters, rank, prompt) for base in {pair.base for pair in sweep.pairs})
    per_seat = 4.0 * (4 + min(most_lanes, rows)) * parameters
    at_once = sweep.max_concurrent_trials or max(RANDOM_TRIALS, -(-sweep.num_samples // 3))
    trials = min(sweep.num_samples, at_once)
    seats, hosts = _counts(sweep, machine, trials, per_seat)
    if seats == 1:
        return Placement(1, 1, why="one at a time" if trials == 1 else "no memory for more")
    shape = Shape(seats, lanes=max(rows, min(seats * rows, most_lanes)), max_rank=rank, max_prompt=prompt)
    return Placement(seats, hosts, shape, f"{per_seat / 2**20:,.1f} MiB a seat: adapter, copies for a batch, optimizer")


def _too_few(sweep: Sweep, machine: Machine) -> str:
    """What is lacking for hosts that all want a core or a device: Ray would wait for ever for the last ones' place."""
    bases = len({pair.base for pair in sweep.pairs})
    hosts = bases * (1 if sweep.hosts == "auto" else sweep.hosts)
    there = machine.gpus or machine.cores
    if hosts <= there:
        return ""
    kind = "shares of a GPU as large as asked for" if machine.gpus else "cores"
    return f"{hosts} hosts of {bases} base{'s' * (bases > 1)} need one each of {there:g} {kind}"


def _counts(sweep: Sweep, machine: Machine, trials: int, per_seat: float) -> tuple[int, int]:
    """Seats of a host, and hosts of a base."""
    bases = len({pair.base for pair in sweep.pairs})
    seats = min(GPU_SEATS if machine.gpus else CPU_SEATS, trials) if sweep.seats == "auto" else sweep.seats
    if sweep.hosts != "auto":
        hosts = sweep.hosts
    else:
        devices = machine.gpus or machine.cores
        hosts = min(int(devices // bases), -(-trials // seats))
    if sweep.seats != "auto":
        return seats, hosts
    weights = max(_weights(pair.base, machine) for pair in sweep.pairs)

    def fitting(hosts: int) -> int:
        of_a_host = machine.free_bytes if machine.gpus else machine.free_bytes / (hosts * bases)
        room = MEMORY_SHARE * max(0.0, of_a_host - weights) / per_seat
        return max(1, int(min(seats, room, -(-trials // hosts))))

    fewest = 1 if sweep.hosts == "auto" and not machine.gpus else hosts  # copies of a base that share main memory
    hosts = next((count for count in range(hosts, fewest, -1) if fitting(count) > 1), fewest)
    return fitting(hosts), hosts


def _largest(sweep: Sweep, pair: Any) -> Any:
    """The pair's configuration with every size at the top of its range."""
    tops = {}
    sizes, axes = reserved(pair.learner), sweep.space_of(pair).axes
    for name in sizes.keys() & axes.keys():
        axis, order = to_entry(axes[name]), sizes[name]
        if "choices" in axis:
            tops[name] = max(axis["choices"], key=order.index if isinstance(order, tuple) else None)
        else:
            tops[name] = axis["high"]
    return dataclasses.replace(pair.learner, **tops)


def _weights(base: str, machine: Machine) -> float:
    """Bytes of a base once it is loaded; 4 bits and their scales take 0.6 of a byte."""
    from trainables.models.loading import BaseName, base_sizes

    options = BaseName.parse(base).options
    half = options & {"bfloat16", "float16"} or (machine.gpus and "float32" not in options)
    return base_sizes(base)[2] * (0.6 if "nf4" in options else 2.0 if half else 4.0)


def _parameters(sweep: Sweep, base: str, adapters: Sequence[Any], rank: int, prompt: int) -> int:
    """Of one seat, by the base's configuration, without weights: it spans the modules that any pair on this base
    adapts, at the largest rank. In float32 each takes 4 bytes for its value, gradient, two moments, and the copy that
    each lane of a training batch holds until its gradient is known."""
    from trainables.models.loading import UnknownBase, base_sizes

    own = [a for pair, a in zip(sweep.pairs, adapters, strict=True) if pair.base == base]
    try:
        hidden, projections, _ = base_sizes(base, tuple(sorted({name for a in own for name in a.target_modules})))
        if any(a.r and not a.target_modules for a in own):
            projections = max(projections, base_sizes(base, None)[1])
    except UnknownBase as error:
        raise BadInput(str(error)) from error
    return prompt * hidden + rank * projections
