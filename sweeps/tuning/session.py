"""One run of a sweep script: its folder, what is checked first, the run, and what is said at the end."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from sweeps.cli.flags import Flags
from sweeps.persistence.interrupt import going_on_with
from sweeps.persistence.lock import driving
from sweeps.persistence.mirror import Mirror, bring
from sweeps.persistence.provenance import describe
from sweeps.persistence.resume_check import check_same
from sweeps.resources.placement import loner, with_devices
from sweeps.resources.worker_groups import check_states, team_of
from sweeps.results.run_folder import SWEEP_FILE, Run
from sweeps.results.statistics import smallest_difference
from sweeps.spec.data_summary import data_of
from sweeps.spec.sweep import BadInput, Sweep
from trainables.atomic import replace_file
from trainables.checks.guards import inspect

Ended = Literal["finished", "interrupted", "failed"]


def session(sweep: Sweep, flags: Flags, script: Path, argv: list[str]) -> Ended:
    """Check, run, show. Returns how the sweep ended. Raises BadInput before anything is started."""
    remarks = check(sweep, flags.allow)
    if flags.mirror and flags.resume:
        bring(flags.mirror, flags.storage_path / (flags.name or sweep.name))
    folder, sweep = choose_folder(sweep, flags)
    mirror = Mirror(flags.mirror, folder) if flags.mirror else None
    if mirror and not flags.resume:
        if mirror.exists():
            raise BadInput(
                f"--mirror {flags.mirror} has a {folder.name!r} already; give another --name, or add --resume"
            )
        mirror.check_ours()
    facts = describe(sweep) | {"guards": remarks}
    if flags.resume:
        check_same(folder, facts)
        from sweeps.spec.deserialize import rebuild

        check_states(rebuild(Run.read(folder).facts), sweep)

    from sweeps.resources.cost_limit import SPENT, spending
    from sweeps.resources.ray_cluster import cluster
    from sweeps.tracking.mlflow_callback import MLflowTracking
    from sweeps.tracking.mlflow_store import store_uri
    from sweeps.tuning.runner import run
    from sweeps.tuning.summary import resume_command, show
    from trainables.runtime.base_transfer import serve_bases

    store_uri(Path.cwd())  # refuses a store that MLflow does not have, before anything is made

    with contextlib.ExitStack() as held:
        if flags.resume:
            held.enter_context(driving(folder))
        largest = held.enter_context(cluster(flags.address, flags.verbose, dashboard=team_of(sweep) is not None))
        sweep = with_devices(sweep, largest.gpus)
        largest.check(sweep.resources_per_trial)
        if largest.nodes > 1:
            held.enter_context(serve_bases(pair.base for pair in sweep.pairs if pair.learner.needs_base))
        costs = spending(largest.autoscaler, sweep.max_cost)
        if not flags.resume:
            create(folder, facts | {"command": [str(script), *argv]})
            held.enter_context(driving(folder))
        held.enter_context(going_on_with(resume_command(sweep, script, argv), folder))
        if mirror:
            held.enter_context(mirror.following())
        if costs:
            costs.keep_in(folder / SPENT)
        tracking = MLflowTracking.for_sweep(sweep, facts, folder)
        print(f"{sweep.name}: {sweep.num_samples} trials of up to {sweep.rounds} rounds in {folder}", flush=True)
        if largest.gpus:
            each = sweep.resources_per_trial.get("gpu", 0)
            print(f"GPUs: {largest.gpus:g}; each trial or host gets {each:g} (--resources.gpu; 0: cores)")
        for line in (*dict.fromkeys(line for pair in sweep.pairs for line in data_of(pair)), *remarks):
            print(line, flush=True)
        outcome = run(sweep, folder, tracking, largest, held, costs, remarks, flags.resume, flags.verbose)
        show(outcome, sweep, folder, script, argv, flags.report)
        tracking.close()
    return "failed" if outcome.cause else "interrupted" if outcome.interrupted else "finished"


def check(sweep: Sweep, allow: Sequence[str] = ()) -> list[str]:
    """Everything that can be known before anything starts; what the guards found but do not stop for, in words.

    Raises BadInput, also for what a guard stops that is not in `allow`.
    """
    try:
        sweep.validate()
        if based := [pair for pair in sweep.pairs if pair.learner.needs_base]:
            from trainables.models.loading import base_sizes, check_base

            for base in {pair.base for pair in based}:  # may ask the hub
                check_base(base)
        for pair in based:
            adapter = pair.learner.adapter()
            if adapter and adapter.r:
                base_sizes(pair.base, adapter.target_modules or None)  # refuses targets that the base does not have
        loner(sweep)  # refuses seats for learners that cannot share a base
        team_of(sweep)  # refuses several processes for learners that train in one
    except ValueError as error:  # tasks and bases explain themselves in one line; they know nothing of sweeps
        raise BadInput(str(error)) from error
    remarks = []
    for finding in (found for task in sweep.tasks() for found in inspect(task, smallest_difference)):
        if finding.stops and finding.guard not in allow:
            raise BadInput(f"guard {finding.guard}: {finding.what}, or pass --allow {finding.guard}")
        remarks.append(f"guard {finding.guard}{' (allowed)' if finding.stops else ''}: {finding.what}")
    return remarks


def choose_folder(sweep: Sweep, flags: Flags) -> tuple[Path, Sweep]:
    """The sweep's folder, and the sweep under its final name.

    A name that was asked for must be free; otherwise the next free one of NAME, NAME-2, NAME-3 is taken. `--resume`
    takes the one that was asked for, or the latest. Raises BadInput.
    """
    root = flags.storage_path
    taken = [n for n in _names(sweep.name) if (root / n / SWEEP_FILE).is_file()] if flags.name is None else [sweep.name]
    if flags.resume:
        name = taken[-1] if taken else sweep.name
        if not (root / name / SWEEP_FILE).is_file():
            raise BadInput(f"--resume: there is no sweep in {root / name}; start it without --resume")
    elif flags.name:
        name = flags.name
        if (root / name).exists():
            raise BadInput(f"--name {name}: {root / name} exists; choose another, or add --resume to go on with it")
    else:
        name = next(n for n in _names(sweep.name) if not (root / n).exists())
    return root / name, dataclasses.replace(sweep, name=name)


def _names(stem: str) -> list[str]:
    return [stem, *(f"{stem}-{i}" for i in range(2, 1000))]


def create(folder: Path, facts: dict[str, Any]) -> None:
    """Write `sweep.yaml` into a new folder. Raises BadInput where nothing can be written."""
    try:
        folder.mkdir(parents=True)
        replace_file(folder / SWEEP_FILE, yaml.safe_dump(facts, sort_keys=False, allow_unicode=True).encode())
    except FileExistsError as error:  # another sweep of this name was started beside this one
        free = next(name for name in _names(folder.name) if not (folder.parent / name).exists())
        raise BadInput(f"{folder} was begun meanwhile by another sweep; start again with --name {free}") from error
    except OSError as error:
        raise BadInput(f"cannot write to {folder}: {error.strerror}; choose another --storage-path") from error
