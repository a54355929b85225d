"""`--plan`: estimate what a sweep would cost, from measured parts of a round of each learner. It does not start Ray."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sweeps.resources.base_dtype import choose_dtypes, in_words, with_dtypes
from sweeps.resources.placement import Placement, machine, place, with_devices
from sweeps.resources.ray_cluster import Capacity
from sweeps.results.decision import FIRST_BUDGET, PATIENCE
from sweeps.results.records import trivial_baselines
from sweeps.results.terminal import print
from sweeps.spec.data_summary import data_of
from sweeps.spec.sweep import Sweep
from sweeps.tuning.design import costs_of, lanes_of, lanes_of_base
from sweeps.tuning.disk_use import finalists_bytes, search_bytes
from sweeps.tuning.fit_to_minutes import choose_design
from sweeps.tuning.probes import probe
from sweeps.tuning.runner import threads_per_process, trials_at_once
from sweeps.tuning.session import check_memory
from sweeps.tuning.surplus import stays_s
from trainables.core import Pair
from trainables.models.gguf import without_hash

HOUR_S = 3600
MIB = 2**20


@dataclass(frozen=True)
class Estimate:
    """What a sweep would take on this machine. `probes`: what was measured of each pair, by its name.

    With --minutes, memory and disk are not estimated (None); `trials` and `rounds` are those of the design.
    """

    name: str
    hours: float  # finalists included
    trials: int
    rounds: int  # of a trial that is not stopped early
    memory_bytes: float | None
    disk_bytes: float | None  # of the search, at most
    probes: Mapping[str, Mapping[str, float]]


def plan(sweep: Sweep, argv: Sequence[str] = (), mirrored: bool = False) -> Estimate:
    """Print what is known without measuring, then each probe, and with --minutes the design for them; `argv` is the
    command line, and `mirrored` whether it has --mirror.

    Raises BadInput when a probe's round fails.
    """
    import torch  # here: it takes seconds

    from trainables.models.cpu_dtype import bfloat16_speedup

    _describe(sweep)
    gpus = torch.cuda.device_count()
    sweep = with_devices(sweep, gpus)
    dtypes = choose_dtypes(sweep, 1, lambda: [bfloat16_speedup()])
    sweep = with_dtypes(sweep, dtypes)
    _say(*in_words(dtypes))
    cores = os.cpu_count() or 1
    reachable = Capacity(cores, gpus, cores)
    check_memory(sweep, reachable)
    placement = place(sweep, machine(sweep, cores, gpus or 1))  # this machine, without asking Ray
    _say(str(placement))
    if sweep.minutes is None:
        _say("trials per rung (ASHA, expected):")
        _say(*(f"  until round {rung}: {count}" for rung, count in rungs(sweep)))
    at_once = lanes_of(placement, sweep.max_concurrent_trials or 1)
    start = time.monotonic()
    probes = probe(sweep, threads_per_process(sweep, placement, reachable), lanes_of_base(placement, at_once))
    for pair, cost in zip(sweep.pairs, probes, strict=True):
        _say(
            f"probe of {pair.name}: {cost['round_s']:.1f} s a round, {cost['start_s']:.1f} s to start, "
            f"{cost['peak_rss'] / MIB:,.0f} MiB, checkpoint {cost['checkpoint'] / MIB:.1f} MiB, "
            f"{cost['trainable_parameters']:,.0f} trainable parameters (measured: {cost['measured']})"
        )
    told = _told(sweep, probes)
    if sweep.minutes is not None:
        left = 60 * sweep.minutes - (time.monotonic() - start)
        design = choose_design(sweep, costs_of(sweep, probes, at_once), left, argv)
        return Estimate(sweep.name, sweep.minutes / 60, design.trials, design.rounds, None, None, told)
    rounds_total = min(_expected_rounds(sweep), sweep.rounds * (sweep.budget or math.inf))
    per_round, peaks = expected_round(sweep.pairs, probes, placement)
    hours = rounds_total * per_round / at_once / HOUR_S
    memory = (sum(peaks) * placement.hosts if placement.shape else max(peaks) * at_once) / MIB
    running = trials_at_once(sweep, placement, reachable) or reachable.trials(sweep.resources_per_trial)
    disk = search_bytes(sweep, probes, running, at_once / per_round, stays_s(sweep, mirrored))
    _say(
        f"estimate: {rounds_total:.0f} rounds, {60 * hours:.1f} min "
        f"with {at_once} side by side, {memory:,.0f} MiB of memory, "
        f"{disk / MIB:,.0f} MiB of disk at most"
    )
    if sweep.finalists:
        hours += _finalists(sweep, probes, per_round, at_once)
    return Estimate(sweep.name, hours, sweep.num_samples, sweep.rounds, memory * MIB, disk, told)


def _told(sweep: Sweep, probes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the numbers of each pair's probe."""
    return {
        pair.name: {name: float(value) for name, value in cost.items() if isinstance(value, float | int)}
        for pair, cost in zip(sweep.pairs, probes, strict=True)
    }


def _finalists(sweep: Sweep, probes: Sequence[Mapping[str, Any]], per_round: float, at_once: int) -> float:
    """Print what the finalists take, and return their hours."""
    configurations = sweep.finalists + len(sweep.pairs)  # the best and the defaults, if none is both
    usual, most = (round(seeds * configurations) for seeds in (PATIENCE * FIRST_BUDGET, FIRST_BUDGET))
    each = sweep.rounds * per_round
    if sweep.per_example:  # a training for each question of the test split
        each = sum(costs_of(sweep, probes, 1).finalist(sweep.rounds)) * len(sweep.pairs[0].task.test())
    if sweep.independent:  # one seed
        usual = most = configurations
    hours = usual * each / at_once / HOUR_S
    disk_of = partial(finalists_bytes, sweep, probes, configurations)
    close = f"; up to {most} trainings and {disk_of(most) / MIB:,.0f} MiB where the best are close"
    _say(
        f"finalists: about {usual} trainings of up to {sweep.rounds} rounds, {60 * hours:.1f} min and"
        f" {disk_of(usual) / MIB:,.0f} MiB of disk more{close if most > usual else ''}"
    )
    return hours


def _describe(sweep: Sweep) -> None:
    """Print the sweep, its pairs and their data."""
    size = f"{sweep.num_samples} trials of up to {sweep.rounds} rounds"
    if sweep.minutes is not None:
        size = f"{sweep.minutes:g} minutes"
    _say(f"sweep {sweep.name}: {size}, search: {sweep.search}")
    for pair in sweep.pairs:
        _say(f"  {pair.name} x {pair.task.name} on {without_hash(pair.base)}")
        sizes = ", ".join(f"{split} {len(pair.task.split(split))}" for split in ("train", "search", "test"))
        named = trivial_baselines(pair.baselines()).items()
        baselines = ", ".join(f"{name} {value:.1%}" for name, value in named) or "none"
        _say(f"    splits: {sizes}; chance {pair.task.chance:.1%}", f"    baselines: {baselines}")
        _say(*(f"    {line}" for line in data_of(pair)))


def expected_round(
    pairs: Sequence[Pair], probes: Sequence[Mapping[str, Any]], placement: Placement
) -> tuple[float, list[float]]:
    """Return the seconds of a round over all pairs, and the peak memory of a process on each base (bytes).

    The hosts of several bases run side by side, and the sweep is over when the slowest base is: then a round counts as
    one of that base for its share of the pairs.
    """
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    for pair, cost in zip(pairs, probes, strict=True):
        seconds.setdefault(pair.base, []).append(cost["round_s"])
        peaks[pair.base] = max(cost["peak_rss"], peaks.get(pair.base, 0.0))
    if placement.shape is None:
        return sum(map(sum, seconds.values())) / len(pairs), [*peaks.values()]
    return max(map(sum, seconds.values())) * len(seconds) / len(pairs), [*peaks.values()]


def _say(*lines: str) -> None:
    for line in lines:
        print(line, flush=True)


def rungs(sweep: Sweep) -> Iterator[tuple[int, int]]:
    """Yield (round, expected trials that reach it): each rung keeps one in `reduction_factor`."""
    count = sweep.num_samples
    for rung in sweep.rungs()[:-1]:
        yield rung, count
        count = max(1, round(count / sweep.reduction_factor))
    yield sweep.rounds, count


def _expected_rounds(sweep: Sweep) -> float:
    total, before = 0.0, 0
    for rung, count in rungs(sweep):
        total, before = total + count * (rung - before), rung
    return total
