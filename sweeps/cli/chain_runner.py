"""Run a chain: sweeps one after the other, each on the base into which the previous phase's winner was merged.

    runs/<chain>/<chain>-<phase>/          the folder of a sweep
    runs/<chain>/<chain>-<phase>/merged/   its winner, merged into its base: the base of the next phase

So the untouched base of a phase is the winner of the previous one, the trials of a phase share one frozen base, and
every phase's gain is measured by itself.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from search_spaces.space import Space
from sweeps.cli.flags import Flags, apply
from sweeps.commands.export import write as write_export
from sweeps.persistence.mirror import Mirror, bring
from sweeps.results.comparison import LEVEL, compare
from sweeps.results.leaderboard import percent, span
from sweeps.results.records import Final
from sweeps.results.run_folder import BEST, SWEEP_FILE, Run
from sweeps.results.terminal import print
from sweeps.spec.chain import Chain
from sweeps.spec.config_fields import fields_of
from sweeps.spec.error_policy import Ended, SweepEnd
from sweeps.spec.open_run import job_of, open_run
from sweeps.spec.run_options import has_name
from sweeps.spec.sweep import Sweep
from sweeps.spec.trust import refuse_remote_code
from sweeps.tuning.session import check, session
from trainables.bad_input import BadInput
from trainables.models.loading import OPTIONS

MERGED = "merged"


def phase_sweeps(chain: Chain, flags: Flags, task: Any) -> list[Sweep]:
    """Return the selected phases' sweeps with the flags applied, all on the first one's base. Raises BadInput."""
    selected = chain.select(flags.phase)
    if len(selected) > 1 and flags.like is not None:
        raise BadInput(f"--like {flags.like}:", "say with --phase which sweep it is for")
    if len(selected) > 1 and len(flags.base) > 1:
        raise BadInput(
            f"--base {' '.join(flags.base)}:",
            "a phase goes on from the winner of the one before",
            "give one base, or say with --phase which sweep compares them",
        )
    return [apply(sweep, _flags_for(sweep, flags, selected), task) for sweep in selected.values()]


def run_chain(chain: Chain, sweeps: Sequence[Sweep], flags: Flags, script: Path, argv: list[str]) -> SweepEnd:
    """Run the selected phases' `sweeps`, from `phase_sweeps`, and return how the last of them that began has ended.

    Raises BadInput before anything starts.
    """
    for sweep in sweeps:
        check(sweep, flags.allow)
    name = _choose_name(chain, flags)
    root = flags.storage_path / name
    folders = [root / f"{name}-{phase}" for phase in chain.select(flags.phase)]
    if flags.resume and flags.mirror:
        _fetch(flags.mirror, folders)
    if flags.resume and flags.num_samples is not None:
        _refuse_more_trials(folders, flags.num_samples)
    argv = argv if has_name(argv) else [*argv, "--name", name]
    base: str | None = None  # the chain's own
    ended: Ended = "finished"
    began = time.monotonic()
    for index, (sweep, folder) in enumerate(zip(sweeps, folders, strict=True)):
        if not (flags.resume and _has_ended(folder)):
            budget = phase_budget(flags, time.monotonic() - began, folders[:index], len(folders) - index)
            if min(budget.values(), default=1.0) > 0:
                named = dataclasses.replace(sweep, name=folder.name, **budget)
                ended = session(on_base(named, chain.from_base, base), _options_for(folder, flags), script, argv).ended
                if ended not in ("finished", "stopped"):
                    return SweepEnd(ended, folder)
            if budget and not _has_ended(folder):
                phase = folder.name.removeprefix(f"{name}-")
                lacks = "not ended" if _has_score(folder) else "no score yet"
                print(f"the budget is used up, and {phase} has {lacks}: go on with --resume and a larger one")
                return SweepEnd("stopped", folder)
            if ended == "stopped":
                return SweepEnd(ended, folder)
        if folder != folders[-1]:
            base = merge_winner(folder)
    print("\n".join(summary(folders)), flush=True)
    return SweepEnd(ended, folders[-1])


def phase_budget(flags: Flags, seconds: float, before: Sequence[Path], left: int) -> dict[str, Any]:
    """Return a phase's part of `--minutes`, `--time-budget-s` and `--max-cost`: what is left, divided by the phases to
    come.

    `seconds` have passed in this process; `before` are the folders of earlier phases; `left` counts this phase, too.
    """
    budget = {}
    if flags.time_budget_s is not None:
        budget["time_budget_s"] = (flags.time_budget_s - seconds) / left
    if flags.minutes is not None:
        budget["minutes"] = (flags.minutes - seconds / 60) / left
    if flags.max_cost is not None:
        from sweeps.resources.cost_limit import SPENT, spent_before

        spent = sum(spent_before(folder / SPENT) for folder in before)
        budget["max_cost"] = (flags.max_cost - spent) / left
    return budget


def on_base(sweep: Sweep, from_base: Sequence[str], base: str | None) -> Sweep:
    """Return the sweep on the base that the previous phase left; learners in `from_base` keep the chain's own base.

    Without a previous phase (`base` is None) those learners are left out.
    """
    if base is None:
        kept = {pair.learner.name: pair for pair in sweep.pairs if pair.learner.name not in from_base}
        space = sweep.space if isinstance(sweep.space, Space) else {name: sweep.space[name] for name in kept}
        first = tuple(one for one in sweep.first if one.pair in kept)
        seen = tuple(one for one in sweep.observations if one.params.pair in kept)
        return dataclasses.replace(sweep, pairs=tuple(kept.values()), space=space, first=first, observations=seen)
    moved = (p if p.learner.name in from_base else dataclasses.replace(p, base=base) for p in sweep.pairs)
    return dataclasses.replace(sweep, pairs=tuple(moved))


def merge_winner(folder: Path) -> str:
    """Merge a sweep's winner into its base, if that was not done before. Return the new base, with its options.

    Raises BadInput if there is no winner.
    """
    run = open_run(folder)
    target = run.folder / MERGED
    job = job_of(run, BEST)
    sweep, record = run.facts["sweep"], job.record
    old = next(
        pair["base"]
        for pair in sweep["pairs"]
        if (pair["learner"]["name"], pair.get("label", "")) == (record.learner, record.params.base)
    )
    refuse_remote_code(old)
    if not (target / "README.md").is_file():  # export writes it last
        shutil.rmtree(target, ignore_errors=True)
        write_export(run, job, target, merge=True, keep_dtype=True)
    base = ":".join([str(target.resolve()), *(part for part in old.split(":") if part in OPTIONS)])
    print(f"\nthe next phase starts from trial {record.number} of {run.folder.name}: {base}\n", flush=True)
    return base


def summary(folders: Sequence[Path]) -> list[str]:
    """Return a line for each phase and a line for each difference between neighbours.

    A confirmed winner is scored over all its seeds. Differences are paired by question of the test split.
    """
    runs = [open_run(folder) for folder in folders]
    lines = ["phases:"]
    for run in runs:
        if (final := _final(run)) is not None:
            bounds = run.confirmation.bounds()[final.name]
            score = f"{percent(final.score)} {span(bounds)} of the test split"
        else:
            job = job_of(run, BEST)
            score = f"{percent(job.score)} {span(job.interval)} of the {job.split} split"
        lines.append(f"  {run.folder.name}: {score}")
    for before, after in pairwise(runs):
        finals = {run.folder.name: final.scores for run in (before, after) if (final := _final(run)) is not None}
        if len(finals) == 2 and len({scores.shape[1] for scores in finals.values()}) == 1:
            pair = compare(finals, after.confirmation.clusters)[0]
            gain = finals[after.folder.name].mean() - finals[before.folder.name].mean()
            worse = ": this phase made it worse" if gain < 0 and pair.p < LEVEL else ""
            lines.append(
                f"  {after.folder.name} less {before.folder.name}: {100 * gain:+.1f} points (p = {pair.p:.2g}){worse}"
            )
    return lines


def _final(run: Run) -> Final | None:
    """Return the winner as it was confirmed on the test split; None if it was not."""
    return next((one for one in run.finals if one.trial_id == run.trial(BEST).trial_id), None)


def _options_for(folder: Path, flags: Flags) -> Flags:
    """Return the options of a phase: its own folder, which is resumed only if it was begun."""
    resume = flags.resume and (folder / SWEEP_FILE).is_file()
    return dataclasses.replace(flags, name=folder.name, storage_path=folder.parent, resume=resume)


def _fetch(uri: str, folders: Sequence[Path]) -> None:
    """Copy the phases from the mirror that are missing here. Raises BadInput if neither place has the first."""
    for folder in folders:
        if not (folder / SWEEP_FILE).is_file() and Mirror(uri, folder).exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            bring(uri, folder)
    if not folders[0].is_dir():
        raise BadInput(
            "--resume:", f"there is no {folders[0]}, nor is it in --mirror {uri}", "start it without --resume"
        )


def _choose_name(chain: Chain, flags: Flags) -> str:
    """Return --name, or the next free name; with --resume the latest one. Raises BadInput."""
    root = flags.storage_path
    names = [chain.name, *(f"{chain.name}-{i}" for i in range(2, 1000))]
    taken = [name for name in names if (root / name).exists()]
    if flags.resume:
        name = flags.name or (taken[-1] if taken else chain.name)
        if not (root / name).is_dir() and not flags.mirror:
            raise BadInput("--resume:", f"there is no chain in {root / name}", "start it without --resume")
        return name
    if flags.name and (root / flags.name).exists() and not flags.phase:
        raise BadInput(f"--name {flags.name}:", f"{root / flags.name} exists", "choose another, or add --resume")
    return flags.name or next(name for name in names if name not in taken)


def _flags_for(sweep: Sweep, flags: Flags, selected: Mapping[str, Sweep]) -> Flags:
    """Return the flags without learners and axes that only other phases have. What no phase has is refused later."""

    def has(phase: Sweep, assignment: str) -> bool:
        learner, _, axis = assignment.partition("=")[0].rpartition(".")
        learners = [p.learner for p in (*phase.pairs, *phase.optional) if learner in ("", p.learner.name)]
        return any(axis in fields_of(one) for one in learners)

    def is_kept(assignment: str) -> bool:
        return has(sweep, assignment) or not any(has(other, assignment) for other in selected.values())

    names = {phase: {p.learner.name for p in (*one.pairs, *one.optional)} for phase, one in selected.items()}
    own = {pair.learner.name for pair in (*sweep.pairs, *sweep.optional)}
    known = set().union(*names.values())
    learners = tuple(name for name in flags.learner if name in own or name not in known)
    return dataclasses.replace(flags, learner=learners, set=tuple(filter(is_kept, flags.set)), phase=())


def _refuse_more_trials(folders: Sequence[Path], num_samples: int) -> None:
    """Raise BadInput for phases that have ended with another number of trials: later ones go on from their winners."""
    for folder in folders:
        if _has_ended(folder) and open_run(folder).facts["sweep"]["num_samples"] != num_samples:
            raise BadInput(
                f"--num-samples {num_samples}: {folder} has ended, and the next phase goes on from its winner; start a"
                " new chain with --name"
            )


def _has_ended(folder: Path) -> bool:
    """Whether the phase is complete: it was not interrupted, and no budget ended it before its first score."""
    if not (folder / SWEEP_FILE).is_file():
        return False
    return not open_run(folder).end.get("interrupted", True) and _has_score(folder)


def _has_score(folder: Path) -> bool:
    known = (folder / SWEEP_FILE).is_file()
    return known and any(record.history.best for record in open_run(folder).records)
