"""One run of a sweep script: check the input, choose the folder, connect to Ray, run, and print the result."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sweeps.persistence.interrupt import explain_resume, was_asked_to_end
from sweeps.persistence.lock import driving
from sweeps.persistence.mirror import Mirror, bring
from sweeps.persistence.more_trials import MAY_CHANGE, asks_for_more
from sweeps.persistence.more_trials import keep as keep_more
from sweeps.persistence.provenance import describe, why_no_commit
from sweeps.persistence.resume_check import check_readable, check_same
from sweeps.persistence.secret_key import secret_key
from sweeps.persistence.snapshot import KEY, check_resumable
from sweeps.persistence.study import storage_of
from sweeps.resources.base_dtype import choose_dtypes, in_words, with_dtypes
from sweeps.resources.base_memory import check_bases_fit
from sweeps.resources.placement import machine, unshareable_learner, with_devices
from sweeps.resources.worker_groups import check_states, worker_group_shape
from sweeps.results.run_folder import SWEEP_FILE, Run
from sweeps.results.statistics import smallest_difference
from sweeps.results.terminal import print
from sweeps.spec.data_summary import data_of
from sweeps.spec.deserialize import rebuild
from sweeps.spec.earlier_looks import EarlierLooks
from sweeps.spec.error_policy import Ended, SweepEnd
from sweeps.spec.fit_to_bases import check_conversations, lengths_of
from sweeps.spec.largest_config import largest_config
from sweeps.spec.run_options import RunOptions
from sweeps.spec.sweep import Sweep
from trainables.atomic import replace_file
from trainables.bad_input import BadInput
from trainables.checks.guards import inspect

if TYPE_CHECKING:  # these import Ray, which takes seconds, and bad input is refused before
    from sweeps.resources.ray_cluster import Capacity
    from sweeps.tuning.runner import Outcome, RunContext


def session(sweep: Sweep, options: RunOptions, script: Path, argv: Sequence[str]) -> SweepEnd:
    """Check and run a sweep, and print the result. Raises BadInput before anything starts."""
    began = time.monotonic()
    remarks = check(sweep, options.allow)
    folder, sweep, mirror = choose_folder(sweep, options)
    if options.resume:
        check_resumable(folder)
        left = Run.read(folder)
        sweep = as_begun(sweep, left, getattr(options, "num_samples", None))
    facts = describe(sweep) | {"guards": remarks}
    more = options.resume and check_resumed(left, sweep, facts)

    from sweeps.resources.cost_limit import SPENT, cost_limit_of
    from sweeps.tracking.mlflow_callback import MLflowTracking
    from sweeps.tracking.mlflow_store import store_uri
    from sweeps.tuning.clock import Clock
    from sweeps.tuning.design import design_of, with_design
    from sweeps.tuning.fit_to_minutes import fit_to_minutes
    from sweeps.tuning.runner import RunContext
    from sweeps.tuning.summary import resume_command, show

    secret_key(KEY)  # refuses a home in which no key can be kept, before a folder is made
    store_uri(Path.cwd())  # refuses a kind of store that MLflow does not have, before a folder is made
    storage_of(folder)  # refuses a path that databases cannot have

    with contextlib.ExitStack() as cleanup:
        if options.resume:
            cleanup.enter_context(driving(folder))
            if more:
                keep_more(left, sweep, [str(script), *(one for one in argv if one != "--resume")])
        capacity = connect(sweep, options.address, cleanup, options.verbose)
        if not options.resume:
            sweep, facts = _with_chosen_dtypes(sweep, facts, capacity)
        sweep = with_devices(sweep, capacity.gpus)
        check_memory(sweep, capacity)
        costs = cost_limit_of(capacity.autoscaler, sweep.max_cost)
        if costs and options.resume:
            costs.keep_in(folder / SPENT)
        clock = None
        if sweep.minutes is not None:
            end = began + min(60 * sweep.minutes, costs.seconds_left() if costs else math.inf)
            design = design_of(folder) or fit_to_minutes(sweep, capacity, end - time.monotonic(), argv)
            sweep, clock = with_design(sweep, design), Clock(design, end)
            facts |= describe(sweep) | {"design": dataclasses.asdict(design)}
        facts |= {"command": [str(script), *argv]}
        if not options.resume:
            create(folder, facts)
            cleanup.enter_context(driving(folder))
        cleanup.enter_context(explain_resume(resume_command(sweep.name, script, argv), folder))
        if mirror:
            cleanup.enter_context(mirror.following())
        if costs and not options.resume:
            costs.keep_in(folder / SPENT)
        tracking = cleanup.enter_context(MLflowTracking.for_sweep(sweep, facts, folder).closing())
        context = RunContext(sweep, folder, capacity, tracking, costs, remarks, options, clock)
        outcome = run_tracked(context, cleanup)
        show(outcome, sweep, folder, script, argv, options.report)
    return SweepEnd(how_ended(outcome, by_limit=bool(costs and costs.reached)), folder)


def how_ended(outcome: Outcome, by_limit: bool) -> Ended:
    """Return how a sweep ended. A limit of costs (`by_limit`) ends its trials by a signal of its own."""
    if outcome.cause:
        return "failed"
    if outcome.interrupted:
        return "interrupted" if was_asked_to_end() and not by_limit else "stopped"
    if outcome.recorder.best() is not None:
        return "finished"
    return "failed" if outcome.recorder.none_is_usable() else "stopped"


def check_resumed(left: Run, sweep: Sweep, facts: dict[str, Any]) -> bool:
    """Return whether a resumed sweep gets more trials. Raises BadInput if it is not the sweep that was begun."""
    more = asks_for_more(sweep, left)
    check_same(left.folder, facts, MAY_CHANGE if more else ())
    check_readable(left.folder)
    check_states(rebuild(left.facts, remote_code=True), sweep)  # loads no base
    return more


def as_begun(sweep: Sweep, left: Run, num_samples: int | None = None) -> Sweep:
    """Return a sweep that is resumed with what was chosen when it began: dtypes, and sizes that fit `--minutes`; and
    with what earlier looks at the test split have used up.

    `num_samples`: what the command line says. Raises BadInput if the sweep was not begun with a number of minutes, and
    has one now; and for no more trials than there are.
    """
    from sweeps.tuning.design import design_of, with_design

    design, folder, facts = design_of(left.folder), left.folder, left.facts
    if sweep.minutes is not None and design is None:
        raise BadInput(f"--minutes {sweep.minutes:g}: {folder} was begun without; leave it out, or use --time-budget-s")
    sweep = with_dtypes(sweep, facts.get("dtypes", {}))
    if design is not None:
        minutes = facts["sweep"]["minutes"] if sweep.minutes is None else sweep.minutes
        design = dataclasses.replace(design, num_samples=num_samples or design.num_samples)
        sweep = with_design(dataclasses.replace(sweep, minutes=minutes), design)
    more = asks_for_more(sweep, left)
    if sweep.all_trials and not (more or facts["sweep"].get("all_trials")) and left.confirmation.finals:
        raise BadInput(
            f"--all-trials: the finalists of {folder} are trained already, without further trials among them; add some"
            f" with --num-samples N, the number in all, or start a new sweep with --name NAME --like {folder}"
        )
    if more or facts.get("more_trials"):  # they were asked for: the search does not end by itself before them
        sweep = dataclasses.replace(sweep, all_trials=True)
    return sweep.after_looks(EarlierLooks(**facts["sweep"].get("earlier", {})))


def check(sweep: Sweep, allow: Sequence[str] = ()) -> list[str]:
    """Make every check that needs no Ray, and return the findings of guards that do not stop the sweep.

    Raises BadInput, also for a finding that stops it, unless the guard is in `allow`.
    """
    try:
        sweep.validate()
        _check_bases(sweep)
        check_conversations(sweep)
        unshareable_learner(sweep)  # refuses --seats for learners that cannot share a base
        worker_group_shape(sweep)  # refuses several processes for learners that train in one
    except ValueError as error:  # of a task or a library; their messages are one line, too
        raise BadInput(str(error)) from error
    remarks = []
    try:
        findings = [found for task in sweep.tasks() for found in inspect(task, smallest_difference)]
    except ValueError as error:  # a user's own score fails
        raise BadInput(str(error)) from error
    for finding in findings:
        if finding.stops and finding.guard not in allow:
            raise BadInput(f"guard {finding.guard}:", f"{finding.what}, or pass --allow {finding.guard}")
        remarks.append(f"guard {finding.guard}{' (allowed)' if finding.stops else ''}: {finding.what}")
    return remarks


def _check_bases(sweep: Sweep) -> None:
    """Check that bases can be loaded, and that the learners on them can be trained there."""
    based = [pair for pair in sweep.pairs if pair.learner.needs_base]
    if not based:
        return
    from trainables.models.learner_check import check_learner
    from trainables.models.loading import check_base

    try:
        for base in sweep.bases():  # may send a request to the Hugging Face hub
            check_base(base)
        for pair in based:
            check_learner(pair.base, pair.learner)
            largest_config(sweep, pair).check_task(pair.task, lengths_of(sweep, pair))
    except ValueError as error:
        raise BadInput(str(error), remedy="or drop it from --base" if sweep.several_bases else "") from error


def check_memory(sweep: Sweep, capacity: Capacity) -> None:
    """Refuse bases that do not fit into memory, in a sweep of several. Raises BadInput."""
    if not sweep.several_bases or worker_group_shape(sweep) is not None:
        return
    here = machine(sweep, capacity.cores, capacity.gpus)
    apart = sweep.seats == 1 or unshareable_learner(sweep) is not None
    limit = sweep.max_concurrent_trials or capacity.trials(sweep.resources_per_trial)
    nodes = capacity.memory if capacity.nodes > 1 else ()
    check_bases_fit(sweep, here.free_bytes, min(limit, sweep.num_samples) if apart else 0, nodes)


def choose_folder(sweep: Sweep, options: RunOptions) -> tuple[Path, Sweep, Mirror | None]:
    """Return the sweep's folder, the sweep under its final name, and the mirror of the folder if there is one.

    --name must be free; without it, the first free name of NAME, NAME-2, NAME-3 is taken. --resume continues
    --name or the latest; a folder that is not on this machine is copied from the mirror. Raises BadInput.
    """
    _check_path(options.storage_path / (options.name or sweep.name))
    if options.mirror and options.resume:
        bring(options.mirror, options.storage_path / (options.name or sweep.name))
    folder = options.storage_path / _choose_name(sweep.name, options)
    mirror = Mirror(options.mirror, folder) if options.mirror else None
    if mirror and not options.resume:
        if mirror.exists():
            raise BadInput(
                f"--mirror {options.mirror}", f"has a {folder.name!r} already", "give another --name, or add --resume"
            )
        mirror.check_ours()
    return folder, dataclasses.replace(sweep, name=folder.name), mirror


def _check_path(folder: Path) -> None:
    """Raise BadInput for a path that no folder of this machine can have: it is too long, or has a zero byte."""
    try:
        os.stat(folder)
    except (OSError, ValueError) as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
            why = getattr(error, "strerror", None) or error
            raise BadInput(f"{str(folder)[:80]!r}: {why}; choose another --name or --storage-path") from error


def _choose_name(stem: str, options: RunOptions) -> str:
    root, name = options.storage_path, options.name
    if options.resume:
        begun = [n for n in _names(stem) if (root / n / SWEEP_FILE).is_file()] if name is None else [name]
        latest = begun[-1] if begun else stem
        if not (root / latest / SWEEP_FILE).is_file():
            raise BadInput("--resume:", f"there is no sweep in {root / latest}", "start it without --resume")
        return latest
    if name:
        if (root / name).exists():
            raise BadInput(f"--name {name}:", f"{root / name} exists", "choose another, or add --resume to continue it")
        return name
    return next(n for n in _names(stem) if not (root / n).exists())


def _names(stem: str) -> list[str]:
    return [stem, *(f"{stem}-{i}" for i in range(2, 1000))]


def create(folder: Path, facts: dict[str, Any]) -> None:
    """Write `sweep.yaml` into a new folder. Raises BadInput if the folder exists or cannot be written to."""
    try:
        folder.mkdir(parents=True)
        replace_file(folder / SWEEP_FILE, yaml.safe_dump(facts, sort_keys=False, allow_unicode=True).encode())
    except FileExistsError as error:  # another sweep took the name while this one connected to Ray
        free = next(name for name in _names(folder.name) if not (folder.parent / name).exists())
        raise BadInput(folder, "was begun meanwhile by another sweep", f"start again with --name {free}") from error
    except OSError as error:
        raise BadInput(f"cannot write to {folder}:", f"{error.strerror}", "choose another --storage-path") from error


def connect(sweep: Sweep, address: str | None, cleanup: contextlib.ExitStack, verbose: bool = False) -> Capacity:
    """Connect to Ray; `cleanup` disconnects. Return the cluster's capacity.

    Raises BadInput if no cluster answers, or if it has no room for a trial.
    """
    from sweeps.resources.ray_cluster import cluster
    from trainables.runtime.base_transfer import serve_bases

    capacity = cleanup.enter_context(cluster(address, verbose, dashboard=worker_group_shape(sweep) is not None))
    capacity.check(with_devices(sweep, capacity.gpus).resources_per_trial)
    if capacity.nodes > 1:
        cleanup.enter_context(serve_bases(pair.base for pair in sweep.pairs if pair.learner.needs_base))
    return capacity


def _with_chosen_dtypes(sweep: Sweep, facts: dict[str, Any], capacity: Capacity) -> tuple[Sweep, dict[str, Any]]:
    """Return a new sweep with the dtypes of its bases on CPUs, and its facts with them; print what was chosen."""
    from sweeps.resources.ray_cluster import bfloat16_speedups

    dtypes = choose_dtypes(with_devices(sweep, capacity.gpus), capacity.nodes, bfloat16_speedups)
    if not dtypes:
        return sweep, facts
    print("\n".join(in_words(dtypes)), flush=True)
    sweep = with_dtypes(sweep, dtypes)
    return sweep, facts | {"sweep": sweep.to_dict(), "dtypes": dtypes}


def run_tracked(context: RunContext, cleanup: contextlib.ExitStack) -> Outcome:
    """Announce and run the sweep. Whatever ends it before its end, an error or a signal, ends its runs in MLflow."""
    from sweeps.tuning.runner import run

    try:
        announce(context)
        outcome = run(context, cleanup)
    except BaseException:
        context.tracking.end_interrupted()
        raise
    if outcome.interrupted:
        context.tracking.end_interrupted()
    return outcome


def announce(context: RunContext) -> None:
    """Print what is about to run: trials, GPUs, data, and the guards' findings."""
    sweep, capacity = context.sweep, context.capacity
    trials = f"about {context.clock.design.trials}" if context.clock else f"{sweep.num_samples}"
    print(f"{sweep.name}: {trials} trials of up to {sweep.rounds} rounds in {context.folder}", flush=True)
    if unknown := why_no_commit():
        print(f"{unknown}; ESPALIER_COMMIT can name it", flush=True)
    if capacity.gpus:
        each = sweep.resources_per_trial.get("gpu", 0)
        print(f"GPUs: {capacity.gpus:g}; each trial or host gets {each:g} (--resources.gpu; 0: CPU only)")
    for line in (*dict.fromkeys(line for pair in sweep.pairs for line in data_of(pair)), *context.remarks):
        print(line, flush=True)
