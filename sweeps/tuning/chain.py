"""A chain: sweeps one after the other, each on the base that the best of the one before has become.

    runs/<chain>/<chain>-<phase>/          a sweep like any other
    runs/<chain>/<chain>-<phase>/merged/   its winner, merged into its base: what the next phase starts from

So a later phase's untouched base is the winner before it, its adapters share one frozen base like all others, and what
is gained in a phase is measured by itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from search_spaces.space import Space
from sweeps.cli.flags import Flags, apply, has_name
from sweeps.commands.export import export
from sweeps.persistence.mirror import Mirror, bring
from sweeps.results.comparison import LEVEL, compare
from sweeps.results.finals import bounds_of
from sweeps.results.leaderboard import percent, span
from sweeps.results.records import Final
from sweeps.results.run_folder import BEST, SWEEP_FILE
from sweeps.spec.config_fields import fields_of
from sweeps.spec.open_run import job_of, open_run
from sweeps.spec.sweep import BadInput, Sweep
from sweeps.tuning.session import Ended, check, session

MERGED = "merged"


@dataclass(frozen=True)
class Chain:
    """Sweeps by phase, in order; those in `apart` run only when --phase names them, and start from the base.

    Learners called as in `anew` start from the chain's own base in every phase, beside those that go on from the phase
    before; in a phase without one before it they are left out.
    """

    name: str
    phases: Mapping[str, Sweep]
    anew: tuple[str, ...] = ()
    apart: Mapping[str, Sweep] = dataclasses.field(default_factory=dict)

    @property
    def first(self) -> Sweep:
        """Whose task and flags stand for all."""
        return next(iter(self.phases.values()))

    def chosen(self, names: Sequence[str]) -> dict[str, Sweep]:
        """The phases that were asked for, in the chain's order. Raises BadInput."""
        every = {**self.phases, **self.apart}
        if unknown := [name for name in names if name not in every]:
            raise BadInput(f"--phase {unknown[0]}: this script's phases are {', '.join(every)}")
        together = [name for name in names if name in self.apart]
        if together and len(names) > 1:
            raise BadInput(f"--phase {' '.join(names)}: {together[0]} starts from the base; run it by itself")
        return {name: sweep for name, sweep in every.items() if name in (names or self.phases)}


def parsed(chain: Chain, flags: Flags, task: Any) -> list[Sweep]:
    """The sweeps that were asked for, all on the first one's base. Raises BadInput."""
    chosen = chain.chosen(flags.phase)
    if len(chosen) > 1 and flags.like is not None:
        raise BadInput(f"--like {flags.like}: say with --phase which sweep it is for")
    return [apply(sweep, _fitting(flags, sweep, chosen), task) for sweep in chosen.values()]


def run_chain(chain: Chain, sweeps: Sequence[Sweep], flags: Flags, script: Path, argv: list[str]) -> Ended:
    """Every phase that was asked for; how the last one ended that was run. Raises BadInput before anything starts.

    `sweeps`: what `parsed` made of the flags.
    """
    for sweep in sweeps:
        check(sweep, flags.allow)
    name, chosen = _name(chain, flags), chain.chosen(flags.phase)
    root = flags.storage_path / name
    if flags.resume and flags.mirror:
        _fetch(flags.mirror, [root / f"{name}-{phase}" for phase in chosen])
    again = argv if has_name(argv) else [*argv, "--name", name]
    base: str | None = None  # the chain's own
    ended, began = cast(Ended, "finished"), time.monotonic()
    for index, (asked, phase) in enumerate(zip(sweeps, chosen, strict=True)):
        folder = root / f"{name}-{phase}"
        before = [root / f"{name}-{one}" for one in list(chosen)[:index]]
        budget = share(flags, time.monotonic() - began, before, len(chosen) - index)
        own = dataclasses.replace(
            flags, name=folder.name, storage_path=root, resume=flags.resume and (folder / SWEEP_FILE).is_file()
        )
        if not (own.resume and _over(folder)):
            if min(budget.values(), default=1.0) > 0:
                now = dataclasses.replace(asked, name=folder.name, **budget)
                ended = session(started(now, chain.anew, base), own, script, again)
                if ended != "finished":
                    return ended
            if budget and not _over(folder):
                print(f"the budget is used up, and {phase} has no score yet: go on with --resume and more of it")
                return "interrupted"
        if phase != list(chosen)[-1]:
            base = become(folder)
    print("\n".join(summary([root / f"{name}-{phase}" for phase in chosen])), flush=True)
    return ended


def share(flags: Flags, seconds: float, before: Sequence[Path], left: int) -> dict[str, Any]:
    """What a phase may use of `--time-budget-s` and `--max-cost`: as much of what is left as each that is to come.

    `seconds` have passed in this process; `before`: the folders of earlier phases; `left`: phases, with this one.
    """
    shares = {}
    if flags.time_budget_s is not None:
        shares["time_budget_s"] = (flags.time_budget_s - seconds) / left
    if flags.max_cost is not None:
        from sweeps.resources.cost_limit import SPENT

        spent = sum(float((folder / SPENT).read_text()) for folder in before if (folder / SPENT).is_file())
        shares["max_cost"] = (flags.max_cost - spent) / left
    return shares


def started(sweep: Sweep, anew: Sequence[str], base: str | None) -> Sweep:
    """The sweep on this base, but for those learners, which stay on the chain's own; without them where there is none
    but that."""
    if base is None:
        kept = {pair.learner.name: pair for pair in sweep.pairs if pair.learner.name not in anew}
        space = sweep.space if isinstance(sweep.space, Space) else {name: sweep.space[name] for name in kept}
        return dataclasses.replace(sweep, pairs=tuple(kept.values()), space=space)
    moved = (p if p.learner.name in anew else dataclasses.replace(p, base=base) for p in sweep.pairs)
    return dataclasses.replace(sweep, pairs=tuple(moved))


def become(folder: Path) -> str:
    """The base that a sweep's winner becomes: merged into its own once, with that one's options.

    Raises BadInput where there is no winner.
    """
    run = open_run(folder)
    target = run.folder / MERGED
    sweep, record = run.facts["sweep"], job_of(run, BEST).record
    old = next(pair["base"] for pair in sweep["pairs"] if pair["learner"]["name"] == record.learner)
    if not (target / "README.md").is_file():  # which is written last
        shutil.rmtree(target, ignore_errors=True)
        with contextlib.redirect_stdout(io.StringIO()):
            export(run.folder, to=target, merge=True)
    base = ":".join([str(target.resolve()), *old.removeprefix("builtin:").split(":")[1:]])
    print(f"\nthe next phase starts from trial {record.number} of {run.folder.name}: {base}\n", flush=True)
    return base


def summary(folders: Sequence[Path]) -> list[str]:
    """A line per phase, over all seeds of its winner if it was confirmed, and whether it is better than the one before,
    on the same questions of the test split."""
    runs = [open_run(folder) for folder in folders]
    lines = ["phases:"]
    for run in runs:
        if (final := _final(run)) is not None:
            bounds = bounds_of(run.finals, run.clusters)[final.name]
            told = f"{percent(final.score)} {span(bounds)} of the test split"
        else:
            job = job_of(run, BEST)
            told = f"{percent(job.score)} {span(job.interval)} of the {job.split} split"
        lines.append(f"  {run.folder.name}: {told}")
    for before, after in pairwise(runs):
        finals = {run.folder.name: final.scores for run in (before, after) if (final := _final(run)) is not None}
        if len(finals) == 2 and len({scores.shape[1] for scores in finals.values()}) == 1:
            pair = compare(finals, after.clusters)[0]
            gain = finals[after.folder.name].mean() - finals[before.folder.name].mean()
            worse = ": this phase made it worse" if gain < 0 and pair.p < LEVEL else ""
            lines.append(
                f"  {after.folder.name} less {before.folder.name}: {100 * gain:+.1f} points (p = {pair.p:.2g}){worse}"
            )
    return lines


def _final(run: Any) -> Final | None:
    """The winner, as it was confirmed on the test split."""
    return next((one for one in run.finals if one.trial_id == run.trial(BEST).trial_id), None)


def _fetch(uri: str, folders: Sequence[Path]) -> None:
    """The phases that the mirror has and this machine has not. Raises BadInput where neither has any."""
    for folder in folders:
        if not (folder / SWEEP_FILE).is_file() and Mirror(uri, folder).exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            bring(uri, folder)
    if not folders[0].is_dir():
        raise BadInput(f"--resume: there is no {folders[0]}, nor is it in --mirror {uri}; start it without --resume")


def _name(chain: Chain, flags: Flags) -> str:
    """The one asked for, or the next free one; with --resume the latest. Raises BadInput."""
    root = flags.storage_path
    names = [chain.name, *(f"{chain.name}-{i}" for i in range(2, 1000))]
    there = [name for name in names if (root / name).exists()]
    if flags.resume:
        name = flags.name or (there[-1] if there else chain.name)
        if not (root / name).is_dir() and not flags.mirror:
            raise BadInput(f"--resume: there is no chain in {root / name}; start it without --resume")
        return name
    if flags.name and (root / flags.name).exists() and not flags.phase:
        raise BadInput(f"--name {flags.name}: {root / flags.name} exists; choose another, or add --resume")
    return flags.name or next(name for name in names if name not in there)


def _fitting(flags: Flags, sweep: Sweep, chosen: Mapping[str, Sweep]) -> Flags:
    """The flags less the learners and axes that only other phases have; what none has stays, and is refused."""

    def belongs(text: str, of: Sweep) -> bool:
        learner, _, axis = text.partition("=")[0].rpartition(".")
        pairs = [p.learner for p in (*of.pairs, *of.optional) if learner in ("", p.learner.name)]
        return any(axis in fields_of(one) for one in pairs)

    def mine(text: str) -> bool:
        return belongs(text, sweep) or not any(belongs(text, other) for other in chosen.values())

    names = {phase: {p.learner.name for p in (*of.pairs, *of.optional)} for phase, of in chosen.items()}
    own = {pair.learner.name for pair in (*sweep.pairs, *sweep.optional)}
    known = set().union(*names.values())
    learners = tuple(name for name in flags.learner if name in own or name not in known)
    return dataclasses.replace(flags, learner=learners, set=tuple(filter(mine, flags.set)), phase=())


def _over(folder: Path) -> bool:
    """Whether there is nothing to go on with: it was not interrupted, nor ended by a budget before any score."""
    if not (folder / SWEEP_FILE).is_file():
        return False
    left = open_run(folder)
    return not left.end.get("interrupted", True) and any(record.history.best for record in left.records)
