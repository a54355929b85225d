"""From a `Sweep` to finished trials: Ray, the searcher, ASHA, tracking, progress, and resuming."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import ray
from ray import tune
from ray.tune import CheckpointConfig
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.tune_config import ResumeConfig

from sweeps.persistence.interrupt import in_order
from sweeps.persistence.snapshot import SNAPSHOT, Snapshot
from sweeps.resources.cost_limit import Spending
from sweeps.resources.placement import Seating, machine, seating
from sweeps.resources.ray_cluster import Capacity
from sweeps.results.finals import candidates
from sweeps.results.run_folder import Run
from sweeps.spec.sweep import LEARNER, Sweep
from sweeps.tracking.mlflow_callback import MLflowTracking
from sweeps.tuning.finalists import confirm, measure_bases, measured, trainable
from sweeps.tuning.optuna_searcher import OptunaSearcher
from sweeps.tuning.progress import Progress
from sweeps.tuning.recorder import Recorder
from sweeps.tuning.stopping import Stops
from sweeps.tuning.study import storage_of
from trainables.core import Task
from trainables.packed.specs import WorkerGroupShape
from trainables.runtime.host_actor import start_hosts
from trainables.runtime.host_client import ANSWER_S, WAIT_FOR_HOST_S, FreeSeatsCallback
from trainables.runtime.trial import Hosts, TaskWithSearchSplit, Trial

MAX_FAILURES = 3  # restarts of a trial whose process or node died
SMALL_SWEEP = 200  # trials up to which every event is snapshotted at once


@dataclass(frozen=True)
class Outcome:
    """What a sweep left: its records, how long it took, and whether it was interrupted before the end."""

    recorder: Recorder
    tracking: MLflowTracking
    baselines: dict[str, float]  # of the first pair's task, with `chance` and, once measured, `untouched`
    untouched: dict[str, dict[str, Any]]  # learner -> metrics of its base before training
    seconds: float
    interrupted: bool
    cause: str | None  # what trial after trial failed with, which ended the sweep
    dollars: float | None  # that its machines cost meanwhile, where that is known
    seating: dict[str, Any]  # `threads` of a trial's process and the `shape` of its host: what its last bits depend on


def run(
    sweep: Sweep,
    folder: Path,
    tracking: MLflowTracking,
    largest: Capacity,
    held: ExitStack,
    costs: Spending | None = None,
    remarks: Sequence[str] = (),
    resume: bool = False,
    verbose: bool = False,
) -> Outcome:
    """Run or resume a validated sweep in `folder` (`runs/<sweep>`), inside `cluster`, which yields `largest`.

    Its hosts end with `held`. `costs` counts dollars where machines are rented; `remarks` are what guards found, for
    the leaderboard. Ctrl-C ends it in order; all work is kept.
    """
    start = time.monotonic()
    task = sweep.pairs[0].task
    baselines = {"chance": task.chance, **sweep.pairs[0].baselines()}
    plan = seating(sweep, machine(sweep, largest.cores, largest.gpus))
    if plan.shape is not None or plan.why or plan.team:
        print(plan, flush=True)
    threads = _threads(sweep, plan, largest)
    hosts = _hosts(sweep, plan, threads)
    held.callback(_end, hosts)
    measuring = measure_bases(sweep, hosts, plan.team)
    recorder = Recorder(folder, sweep, baselines, remarks)
    searcher = _searcher(sweep, folder, costs.may_start if costs else None)
    progress = Progress(sweep.num_samples, sweep.rounds, task.chance, sys.stdout, lambda: recorder.records.values())
    free = FreeSeatsCallback([host for of_base in hosts.values() for host in of_base])
    stops = Stops(folder, sweep.rounds, sweep.time_budget_s)
    team = plan.team or _elsewhere(sweep, hosts, largest)
    own = sweep.max_concurrent_trials
    if own is None and team:  # Tune sees only the trials' own processes, which take nothing
        own = largest.trials(sweep.resources_per_trial)
    seats = plan.seats * plan.hosts if hosts else None
    side_by_side = min(filter(None, (seats, own)), default=None)
    callbacks = [recorder, tracking, progress, free, *([costs] if costs else [])]
    with in_order() as pressed:
        trials = _tune(sweep, side_by_side, hosts, team, folder, searcher, stops, callbacks, resume, verbose)
    recorder.tidy_ended()

    over = stops.over or bool(costs and costs.stopped)
    if stops.over:
        print(f"--time-budget-s {sweep.time_budget_s:g} is used up; --resume goes on with every trial")
    if costs and costs.stopped:
        print(f"--max-cost {sweep.max_cost}: {costs.dollars:.2f} dollars are spent, and no further trial was started")
    unfinished = [trial for trial in trials if trial.status not in ("TERMINATED", "ERROR")]
    broken_off = any(record.status == "interrupted" for record in recorder.records.values())  # Tune: "TERMINATED"
    interrupted = not over and (pressed() or bool(unfinished) or broken_off or len(trials) < sweep.num_samples)
    within_s = ANSWER_S if interrupted else WAIT_FOR_HOST_S
    before = {name: metrics for name, reference in measuring.items() if (metrics := measured(reference, within_s))}
    if before:
        baselines["untouched"] = max(metrics["score"] for metrics in before.values())
    recorder.judge()
    for record in recorder.records.values():
        if record.notes:
            tracking.tag(record.trial_id, {"notes": "; ".join(record.notes)})
    if resume:  # the test split is asked once
        left = Run.read(folder)
        recorder.finals, recorder.clusters, recorder.trivial = left.finals, left.clusters, left.trivial
        recorder.lost = left.lost
    if not recorder.finals:
        recorder.keep_best(trials)
    recorder.write()
    chosen = candidates(list(recorder.records.values()), sweep.finalists, sweep.defaults(), sweep.rounds)
    if sweep.finalists and chosen and not (interrupted or over or recorder.finals):
        print(f"finalists: {len(chosen)} configurations are trained again, with other seeds, and asked the test split")
        confirmed = confirm(sweep, chosen, hosts, team, side_by_side, folder)
        if confirmed is None:
            interrupted = True
        else:
            on_test = replace(sweep.pairs[0], task=cast(Task, TaskWithSearchSplit(task, task.test())))
            trivial = {"chance": task.chance, **on_test.baselines()}
            recorder.confirm(*confirmed, task.test(), trivial)
        for one in recorder.finals:
            if one.trial_id is not None:
                tracking.tag(one.trial_id, {"finalist": True, "test_score": f"{one.score:.4f}"})
    bits = {"threads": threads, "shape": asdict(plan.shape) if plan.shape else None}
    if costs:
        costs.close()
    spent, seconds = costs.dollars if costs else None, time.monotonic() - start
    return Outcome(recorder, tracking, baselines, before, seconds, interrupted, stops.cause, spent, bits)


def _tune(
    sweep: Sweep,
    side_by_side: int | None,
    hosts: Hosts,
    team: WorkerGroupShape | None,
    folder: Path,
    searcher: OptunaSearcher,
    stops: Stops,
    callbacks: list[tune.Callback],
    resume: bool,
    verbose: bool,
) -> list[Any]:
    """`tune.run` rather than `Tuner`, whose restore brings back pickled callbacks. Returns Tune's trials."""
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "0" if sweep.num_samples <= SMALL_SWEEP else "10"
    snapshot = Snapshot(folder / SNAPSHOT)
    restored = resume and snapshot.restore(folder / "tune")
    if resume and not restored:  # killed in its first moments
        searcher.settle()
    analysis = tune.run(
        trainable(Trial, sweep, hosts, team),
        name="tune",
        storage_path=str(folder.resolve()),
        metric="score",
        mode="max",
        num_samples=sweep.num_samples,
        stop=stops,
        search_alg=searcher,
        scheduler=_asha(sweep),
        max_concurrent_trials=side_by_side,
        reuse_actors=True,
        max_failures=MAX_FAILURES,
        raise_on_failed_trial=False,
        # Not num_to_keep: Tune deletes before it writes the snapshot that no longer needs what it deletes, and a driver
        # killed in between cannot be resumed. The recorder tidies up later instead.
        checkpoint_config=CheckpointConfig(
            checkpoint_score_attribute="score", checkpoint_score_order="max", checkpoint_frequency=1
        ),
        resume_config=ResumeConfig() if restored else None,
        callbacks=[*callbacks, stops, snapshot],
        trial_dirname_creator=lambda trial: trial.trial_id,
        verbose=2 if verbose else 0,
    )
    return analysis.trials


def _threads(sweep: Sweep, plan: Seating, largest: Capacity) -> int:
    """Of the process that trains: hosts share the cores that there may be, and other trials have what they ask for."""
    if plan.team is not None:
        return max(1, int(plan.team.cpus))
    if plan.shape is None:
        return max(1, int(sweep.resources_per_trial.get("cpu", 1)))  # as Ray sets OMP_NUM_THREADS
    bases = len({pair.base for pair in sweep.pairs})
    return max(1, int(min(largest.smallest, largest.cores // (bases * plan.hosts))))


def _hosts(sweep: Sweep, plan: Seating, threads: int) -> Hosts:
    """Actors for every base of the sweep; none where trials do not share bases."""
    if plan.shape is None:
        return {}
    bases = sorted({pair.base for pair in sweep.pairs})
    gpus = sweep.resources_per_trial.get("gpu", 0)
    return {base: start_hosts(base, plan.shape, plan.hosts, threads, gpus) for base in bases}


def _end(hosts: Hosts) -> None:
    """Tune holds what trials were given as long as Ray lives, and with it hosts and their cores."""
    for of_base in hosts.values():
        for host in of_base:
            ray.kill(host)


def _elsewhere(sweep: Sweep, hosts: Hosts, largest: Capacity) -> WorkerGroupShape | None:
    """Of trials without a host, where there are several nodes: so their own processes are on this one's disk."""
    if hosts or largest.nodes == 1:
        return None
    asked = sweep.resources_per_trial
    return WorkerGroupShape(1, asked.get("cpu", 0), asked.get("gpu", 0))


def _asha(sweep: Sweep) -> AsyncHyperBandScheduler:
    return AsyncHyperBandScheduler(
        time_attr="training_iteration",
        max_t=sweep.rounds,
        grace_period=sweep.effective_grace_period(),
        reduction_factor=sweep.reduction_factor,
    )


def _searcher(sweep: Sweep, folder: Path, may_start: Callable[[], bool | None] | None) -> OptunaSearcher:
    return OptunaSearcher(
        sweep.joined_space(),
        storage=storage_of(folder),
        study_name=sweep.name,
        seed=sweep.seed,
        sampler=sweep.search,
        accept=sweep.resolve,
        may_start=may_start,
        objectives=sweep.objectives,
        rounds=sweep.rounds,
        enqueue=[*sweep.first, *sweep.defaults()],
        shared=LEARNER if len(sweep.pairs) > 1 else None,
    )
