"""Run a sweep's trials: prepare hosts and callbacks, search with Ray Tune, train the finalists, and sum up."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import CheckpointConfig
from ray.tune.schedulers import TrialScheduler
from ray.tune.tune_config import ResumeConfig

from sweeps.persistence.interrupt import graceful_interrupt
from sweeps.persistence.snapshot import SNAPSHOT, Snapshot
from sweeps.persistence.study import storage_of
from sweeps.resources.base_memory import base_bytes
from sweeps.resources.cost_limit import CostLimit
from sweeps.resources.placement import Placement, machine, place
from sweeps.resources.ray_cluster import Capacity
from sweeps.results.confirmation import Confirmation
from sweeps.results.finals import candidates, counted, most_telling
from sweeps.results.leaderboard import span
from sweeps.results.records import Candidate, Final, TrialRecord, untouched_baseline
from sweeps.results.run_folder import Run
from sweeps.results.terminal import print
from sweeps.results.trial_params import TrialParams
from sweeps.spec.run_options import RunOptions
from sweeps.spec.sweep import Sweep
from sweeps.tracking.mlflow_callback import MLflowTracking
from sweeps.tuning.clock import Clock
from sweeps.tuning.confirmation import FEWEST_SEEDS, Finalists, confirm
from sweeps.tuning.finalists import TrialPlaces, measure_bases, measured, model_folder, threads_of_trial, trainable
from sweeps.tuning.further_gain import EndOfSearch, FurtherGain
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
from sweeps.tuning.progress import UNDER_WAY, Progress
from sweeps.tuning.promotion import Limits, PromotingASHA
from sweeps.tuning.recorder import Recorder, baselines_of
from sweeps.tuning.second_look import begin_look
from sweeps.tuning.stopping import SweepStopper, stopping_asha
from sweeps.tuning.surplus import MIRROR_LAG_S, snapshot_every_s
from trainables.packed.specs import WorkerGroupShape
from trainables.runtime.host_actor import start_hosts
from trainables.runtime.host_client import ANSWER_S, WAIT_FOR_HOST_S, FreeSeatsCallback
from trainables.runtime.trial import Hosts, Trial
from trainables.runtime.worker_group import threads_of

MAX_FAILURES = 3  # restarts of a trial whose process or node died
FEWEST_TRAININGS = 1.5  # of each finalist, on the average, for which there must be time


@dataclass(frozen=True)
class RunContext:
    """The inputs of a run: the sweep, its folder, the cluster, and the tracker."""

    sweep: Sweep
    folder: Path  # runs/<sweep>
    capacity: Capacity
    tracking: MLflowTracking
    cost_limit: CostLimit | None  # None: the prices of the machines are not known
    remarks: Sequence[str]  # findings of guards, for the leaderboard
    options: RunOptions
    clock: Clock | None  # of a sweep with `--minutes`


@dataclass(frozen=True)
class Prepared:
    """The objects that the search and the finalists share."""

    placement: Placement
    threads: int  # of each process that trains
    places: TrialPlaces
    untouched: dict[str, Any]  # pair -> Ray's reference to the metrics of its base before training
    baselines: dict[str, float]  # the recorder shares it
    recorder: Recorder
    searcher: OptunaSearcher
    scheduler: TrialScheduler
    stopper: SweepStopper
    callbacks: list[tune.Callback]


@dataclass(frozen=True)
class SearchEnd:
    """How the search ended."""

    trials: list[Any]  # Tune's
    over_budget: bool = False  # the time or the money was used up
    interrupted: bool = False


@dataclass(frozen=True)
class Outcome:
    """The results of a run, for the summary."""

    recorder: Recorder
    tracking: MLflowTracking
    baselines: dict[str, float]  # of the first pair's task: also `chance` and, if measured, `untouched` (and the base)
    untouched: dict[str, dict[str, Any]]  # pair -> metrics of its base before training
    seconds: float
    interrupted: bool  # before the search or the finalists were done
    cause: str | None  # the failure of several trials in a row that ended the sweep
    dollars: float | None  # cost of the machines; None if it is not known
    hourly: float | None  # what they cost an hour now
    placement: dict[str, Any]  # `threads` of a process and `shape` of a host: the last bits of a score depend on them


def run(context: RunContext, cleanup: ExitStack) -> Outcome:
    """Run or resume a validated sweep on a connected Ray cluster. `cleanup` will end its hosts.

    Ctrl-C ends the run early and keeps all work.
    """
    start = time.monotonic()
    prepared = prepare(context, cleanup)
    end = search(context, prepared)
    untouched = measure_untouched_bases(prepared, end.interrupted)
    record_search(context, prepared, end)
    confirmed = confirm_finalists(context, prepared, end)
    return summarise(context, prepared, untouched, not confirmed or end.interrupted, time.monotonic() - start)


def prepare(context: RunContext, cleanup: ExitStack) -> Prepared:
    """Start the hosts, begin to measure untouched bases, and build what Tune calls."""
    sweep, capacity = context.sweep, context.capacity
    task = sweep.pairs[0].task
    placement, threads, places = start_places(sweep, capacity, cleanup)
    hosts = places.hosts
    untouched = measure_bases(sweep, hosts, placement.workers)
    baselines = {"chance": task.chance, **sweep.pairs[0].baselines()}
    recorder = Recorder(context.folder, sweep, baselines, context.remarks)
    if context.options.resume:
        recorder.confirmation = Run.read(context.folder).confirmation
    costs = context.cost_limit
    seats = placement.seats * placement.hosts if hosts and sweep.several_bases else None
    settings = replace(SearchSettings.of_sweep(sweep), seats=seats)
    stopper = SweepStopper(context.folder, sweep.rounds, sweep.time_budget_s)
    progress = Progress(
        total=context.clock.design.trials if context.clock else sweep.num_samples,
        rounds=sweep.rounds,
        chance=task.chance,
        stream=sys.stdout,
        earlier=lambda: recorder.records.values(),
        several_pairs=len(sweep.pairs) > 1,
    )
    budget = math.inf if sweep.budget is None else sweep.budget * sweep.rounds
    limits = Limits(sweep.num_samples, places.at_once, seats, budget, context.clock)
    if gain := FurtherGain.of_sweep(sweep, baselines):
        end = EndOfSearch(gain, sweep.num_samples, recorder, progress, lambda: searcher.is_trial_waiting)
        limits = limits._replace(is_enough=end.is_due)
    scheduler = scheduler_of(sweep, recorder, stopper, limits)
    may_start = costs.may_start if costs else None
    if isinstance(scheduler, PromotingASHA):
        scheduler.ended_early = was_search_over(context)
        may_start = partial(scheduler.may_start, may_start)
    searcher = OptunaSearcher(settings, storage_of(context.folder), may_start)
    free = FreeSeatsCallback([host for of_base in hosts.values() for host in of_base])
    return Prepared(
        placement=placement,
        threads=threads,
        places=places,
        untouched=untouched,
        baselines=baselines,
        recorder=recorder,
        searcher=searcher,
        scheduler=scheduler,
        stopper=stopper,
        callbacks=[recorder, context.tracking, progress, free, *([costs] if costs else []), stopper],
    )


def was_search_over(context: RunContext) -> bool:
    """Return whether a sweep with `--minutes` that is resumed was interrupted after its search, which then stays as it
    is: there would be time for more trials again."""
    if not context.options.resume or context.clock is None:
        return False
    left = Run.read(context.folder)
    records = left.records
    if left.facts.get("more_trials") and len(records) < context.sweep.num_samples:
        return False
    return bool(records) and all(one.status not in UNDER_WAY for one in records)


def scheduler_of(sweep: Sweep, recorder: Recorder, stopper: SweepStopper, limits: Limits) -> TrialScheduler:
    """Return the sweep's scheduler. Ray's, which stops trials, keeps no limits."""
    if sweep.scheduler == "stopping":
        return stopping_asha(sweep)
    return PromotingASHA(sweep.rungs(), sweep.reduction_factor, lambda: recorder.records, limits, stopper.stopped)


def start_places(sweep: Sweep, capacity: Capacity, cleanup: ExitStack) -> tuple[Placement, int, TrialPlaces]:
    """Decide where trials run, print it, and start the hosts; `cleanup` ends them. Return also the threads of each
    process that trains."""
    placement = place(sweep, machine(sweep, capacity.cores, capacity.gpus))
    if placement.shape is not None or placement.why or placement.workers:
        print(placement, flush=True)
    threads, workers = threads_per_process(sweep, placement, capacity), workers_of(sweep, placement, capacity)
    hosts = _start_hosts(sweep, placement, threads, capacity.nodes == 1 or not sweep.several_bases)
    cleanup.callback(_end_hosts, hosts)
    return placement, threads, TrialPlaces(hosts, workers, trials_at_once(sweep, placement, capacity))


def workers_of(sweep: Sweep, placement: Placement, capacity: Capacity) -> WorkerGroupShape | None:
    """Return the processes that train each trial; None if its own process or a host does.

    On several nodes a trial without a host gets a worker process: the trial's own then stays on the driver's node,
    whose disk keeps the checkpoints.
    """
    if placement.workers is not None or placement.shape is not None or capacity.nodes == 1:
        return placement.workers
    resources = sweep.resources_per_trial
    return WorkerGroupShape(1, resources.get("cpu", 0), resources.get("gpu", 0))


def trials_at_once(sweep: Sweep, placement: Placement, capacity: Capacity) -> int | None:
    """Return how many trials may run at the same time; None if Ray finds out from their resources."""
    limit = sweep.max_concurrent_trials
    if limit is None and workers_of(sweep, placement, capacity):  # the trials' own processes ask Ray for nothing
        limit = capacity.trials(sweep.resources_per_trial)
    seats = placement.seats * placement.hosts * placement.bases if placement.shape is not None else None
    return min(filter(None, (seats, limit)), default=None)


def threads_per_process(sweep: Sweep, placement: Placement, capacity: Capacity) -> int:
    """Return the threads of a process that trains: hosts share the cores, other trials have those that they ask for."""
    if placement.workers is not None:
        return threads_of(placement.workers)
    if placement.shape is None:
        return threads_of_trial(sweep)
    bases = len({pair.base for pair in sweep.pairs})
    return max(1, int(min(capacity.smallest, capacity.cores // (bases * placement.hosts))))


def _start_hosts(sweep: Sweep, placement: Placement, threads: int, one_machine: bool) -> Hosts:
    """Start actors for every base of the sweep; none if trials do not share bases.

    On a cluster a host asks Ray for the memory of its base, so that it starts on a machine that has it.
    """
    if placement.shape is None:
        return {}
    bases = sorted({pair.base for pair in sweep.pairs})
    gpus = sweep.resources_per_trial.get("gpu", 0)
    memory = {base: 0 if gpus or one_machine else int(base_bytes(base, gpu=False)) for base in bases}
    return {base: start_hosts(base, placement.shape, placement.hosts, threads, gpus, memory[base]) for base in bases}


def _end_hosts(hosts: Hosts) -> None:
    """Kill the hosts. Tune keeps a reference to them, and so their cores, as long as Ray runs."""
    for of_base in hosts.values():
        for host in of_base:
            ray.kill(host)


def search(context: RunContext, prepared: Prepared) -> SearchEnd:
    """Run all trials. Prints which budget ended the search, if one did."""
    sweep, recorder, costs = context.sweep, prepared.recorder, context.cost_limit
    with graceful_interrupt() as was_pressed, costs.enforced() if costs else nullcontext():
        try:
            trials = _tune(context, prepared)
        finally:
            prepared.searcher.close()
    if prepared.stopper.disk_fault:
        raise prepared.stopper.disk_fault
    if not context.options.mirror:  # which may still copy what an earlier snapshot names
        recorder.surplus.delete(math.inf)  # the last snapshot is on disk
    over_time, over_cost = prepared.stopper.over, bool(costs and costs.stopped)
    if over_time:
        print(f"--time-budget-s {sweep.time_budget_s:g} is used up; --resume continues every trial")
    if costs and costs.reached:
        print(cost_limit_reached(sweep, costs))
    elif costs and over_cost:
        print(f"--max-cost {sweep.max_cost}: {costs.dollars:.2f} dollars are spent, and no further trial was started")
    if over_time or over_cost:
        return SearchEnd(trials, over_budget=True, interrupted=bool(costs and costs.reached))
    states, expected = [trial.status for trial in trials], sweep.num_samples
    if isinstance(prepared.scheduler, PromotingASHA) and prepared.scheduler.ended_early:
        expected = min(len(states), expected)
        if not recorder.why_over and sweep.budget is not None:
            print(f"--budget {sweep.budget:g} is used up: {expected} of {sweep.num_samples} trials were started")
    incomplete = is_incomplete(states, recorder.records.values(), expected)
    return SearchEnd(trials, interrupted=was_pressed() or incomplete)


def cost_limit_reached(sweep: Sweep, costs: CostLimit) -> str:
    return (
        f"--max-cost {sweep.max_cost}: {costs.reached}, and the sweep ends as after Ctrl-C; go on with a higher limit"
    )


def is_incomplete(states: Sequence[str], records: Iterable[TrialRecord], num_samples: int) -> bool:
    """Return whether some of `num_samples` trials have not ended. `states` are Tune's, of those that were started."""
    unfinished = any(state not in ("TERMINATED", "ERROR") for state in states)
    cut_off = any(record.status == "interrupted" for record in records)  # Tune calls these TERMINATED, too
    return unfinished or cut_off or len(states) < num_samples


def _tune(context: RunContext, prepared: Prepared) -> list[Any]:
    """Call `tune.run` and return Tune's trials. `Tuner` would restore pickled callbacks on resume."""
    sweep, folder = context.sweep, context.folder
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = str(snapshot_every_s(sweep))
    os.environ["TUNE_ONLY_STORE_CHECKPOINT_SCORE_ATTRIBUTE"] = "1"  # snapshots would name all metrics of each round
    lag_s = MIRROR_LAG_S if context.options.mirror else 0.0
    snapshot = Snapshot(folder / SNAPSHOT, lambda written: prepared.recorder.surplus.delete(written - lag_s))
    restored = context.options.resume and snapshot.restore(folder / "tune", sweep.num_samples)
    if context.options.resume and not restored:  # the driver was killed before Tune's first snapshot
        prepared.searcher.settle()
    analysis = tune.run(
        trainable(Trial, sweep, prepared.places),
        name="tune",
        storage_path=str(folder.resolve()),
        metric="score",
        mode="max",
        num_samples=sweep.num_samples,
        stop=prepared.stopper,
        search_alg=prepared.searcher,
        scheduler=prepared.scheduler,
        # Tune's limit counts paused trials, too; the promoting scheduler keeps it by itself.
        max_concurrent_trials=prepared.places.at_once if sweep.scheduler == "stopping" else None,
        reuse_actors=True,
        max_failures=MAX_FAILURES,
        raise_on_failed_trial=False,
        # Not num_to_keep, which deletes before a snapshot does without what is deleted: see `surplus.py`.
        checkpoint_config=CheckpointConfig(
            checkpoint_score_attribute="score", checkpoint_score_order="max", checkpoint_frequency=1
        ),
        resume_config=ResumeConfig() if restored else None,
        callbacks=[*prepared.callbacks, snapshot],  # last, so that it keeps what the others have written
        trial_dirname_creator=lambda trial: trial.trial_id,
        verbose=2 if context.options.verbose else 0,
    )
    return analysis.trials


def measure_untouched_bases(prepared: Prepared, interrupted: bool) -> dict[str, dict[str, Any]]:
    """Return, by pair, the metrics of its base before training; add the best score of each base to the baselines.

    After an interruption this waits only a moment for a measurement that is not done.
    """
    within_s = ANSWER_S if interrupted else WAIT_FOR_HOST_S
    found = {name: metrics for name, wait in prepared.untouched.items() if (metrics := measured(wait, within_s))}
    for pair, metrics in found.items():
        name = untouched_baseline(TrialParams(pair, {}).base)
        prepared.baselines[name] = max(metrics["score"], prepared.baselines.get(name, 0.0))
    return found


def record_search(context: RunContext, prepared: Prepared, end: SearchEnd) -> None:
    """Write the search's results, and tag warnings in MLflow. A resumed sweep keeps the finalists that it had."""
    recorder = prepared.recorder
    recorder.judge()
    for record in recorder.records.values():
        if record.notes:
            context.tracking.tag(record.trial_id, {"notes": "; ".join(record.notes)})
    recorder.keep_best(end.trials)
    recorder.write()


def due_finalists(
    sweep: Sweep,
    records: Sequence[TrialRecord],
    end: SearchEnd,
    earlier: Sequence[Final],
    timed: bool = False,
) -> list[Candidate]:
    """Return the configurations to train again: none before the search is done, and none after `earlier` finalists."""
    if not sweep.finalists or end.interrupted or end.over_budget or earlier:
        return []
    return candidates(records, sweep.finalists, sweep.defaults(), sweep.rounds, timed)


def _most_finalists(sweep: Sweep, records: Sequence[TrialRecord], clock: Clock) -> int:
    """Return how many finalists there is time for: those of the design, or fewer if the search was slower than it
    expected, and at least two."""
    design, pace = clock.design, clock.pace(sum(one.rounds for one in records))
    if pace is None or design.finalists >= sweep.finalists + len(sweep.pairs):
        return design.finalists
    each = sweep.rounds * pace
    if sweep.per_example:
        each *= design.questions / design.search_size
    trainings = 1.0 if sweep.independent else FEWEST_TRAININGS
    return max(2, min(design.finalists, int(clock.left / (trainings * each))))


def confirm_finalists(context: RunContext, prepared: Prepared, end: SearchEnd) -> bool:
    """Train the finalists and record their scores on the test split. Return False if Ctrl-C or --max-cost came before a
    result."""
    sweep, recorder, costs = context.sweep, prepared.recorder, context.cost_limit
    records = list(recorder.records.values())
    earlier = () if Run.read(context.folder).is_look_due else recorder.confirmation.finals
    chosen = due_finalists(sweep, records, end, earlier, timed=context.clock is not None)
    if not chosen:
        return True
    if context.clock:
        count = _most_finalists(sweep, records, context.clock)
        if count < min(len(chosen), context.clock.design.finalists):
            print(f"the search was slower than expected: there is time for {count} finalists")
        chosen = most_telling(chosen, count, sweep.defaults())
    if costs and not costs.may_start_finalists((1 if sweep.independent else FEWEST_SEEDS) * len(chosen)):
        print(f"--max-cost {sweep.max_cost}: {costs.dollars:.2f} dollars are spent, too many for finalists")
        return False
    sweep = begin_look(context.folder, sweep)
    if recorder.confirmation.finals:
        recorder.begin_look(end.trials)
    print(f"finalists: {counted(len(chosen), 'configuration')}, trained again with other seeds for the test split")
    finalists = Finalists(sweep, prepared.places, context.folder, {one.name: one for one in chosen})
    only_once = [one.name for one in chosen if is_trivial(recorder.records[one.trial_id], prepared.baselines)]
    with costs.enforced() if costs else nullcontext():
        record = partial(record_finalists, context.tracking, recorder, finalists)
        known = confirm(finalists, only_once, record, context.clock)
    if costs and costs.reached:
        print(cost_limit_reached(sweep, costs))
    return known is not None


def is_trivial(record: TrialRecord, baselines: Mapping[str, float]) -> bool:
    """Return whether a trial scored no more than trivial strategies, and its base before training."""
    bar = max((value for name, value in baselines_of(record, baselines).items() if "." not in name), default=0.0)
    return (record.score or 0.0) <= bar


def record_finalists(tracking: MLflowTracking, recorder: Recorder, finalists: Finalists, known: Confirmation) -> None:
    """Record finalists in the sweep's folder, with the scores of trivial strategies, and tag them in MLflow."""
    first = finalists.sweep.pairs[0]
    task = first.task
    asked = finalists.questions(max((one.scores.shape[1] for one in known.finals), default=0))
    on_test = replace(first, task=task.with_search(asked))
    trivial = {"chance": task.chance, **on_test.baselines()}
    known = replace(known, trivial=trivial, parameters=_parameters(finalists.sweep))
    left = {one.trial_id for one in known.finals}
    checkpoints = {trial_id: one for trial_id, one in finalists.checkpoints.items() if trial_id in left}
    recorder.confirm(known, checkpoints, asked)
    later = ("look", str(known.look)) if known.look > 1 else ()
    is_finalist, score, interval = ("_".join([name, *later]) for name in ("finalist", "test_score", "test_interval"))
    bounds = known.bounds()
    for final in known.finals:
        if final.trial_id is not None:
            tags = {is_finalist: True, score: f"{final.score:.4f}", interval: span(bounds[final.name])}
            made = checkpoints.get(final.trial_id)
            tracking.log_finalist(final.trial_id, tags, final.score, made and model_folder(made, recorder.folder))


def _parameters(sweep: Sweep) -> dict[str, int]:
    """Return the number of parameters of each base, by its label; empty in a sweep of one base."""
    if not sweep.several_bases:
        return {}
    from trainables.models.loading import base_sizes  # imports torch

    return {pair.label: base_sizes(base)[2] for base, pair in sweep.bases().items()}


def summarise(
    context: RunContext, prepared: Prepared, untouched: dict[str, dict[str, Any]], interrupted: bool, seconds: float
) -> Outcome:
    """Stop counting dollars, and collect the outcome."""
    costs, shape = context.cost_limit, prepared.placement.shape
    if costs:
        costs.close()
    return Outcome(
        recorder=prepared.recorder,
        tracking=context.tracking,
        baselines=prepared.baselines,
        untouched=untouched,
        seconds=seconds,
        interrupted=interrupted,
        cause=prepared.stopper.cause,
        dollars=costs.dollars if costs else None,
        hourly=costs.hourly if costs else None,
        placement={"threads": prepared.threads, "shape": asdict(shape) if shape else None},
    )
