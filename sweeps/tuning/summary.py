"""The summary at the end of a sweep: leaderboard, gain by format and by skill, and the next commands."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sweeps.results.finals import print_finals
from sweeps.results.gain import gain
from sweeps.results.leaderboard import print_table
from sweeps.results.records import TrialRecord, trivial_baselines
from sweeps.results.run_folder import BEST, END_FILE, Run
from sweeps.results.terminal import print
from sweeps.spec.open_run import job_of
from sweeps.spec.run_options import has_name
from sweeps.spec.sweep import Sweep
from sweeps.spec.trust import trust_flags
from sweeps.tuning.runner import Outcome
from sweeps.tuning.stopping import SAME
from trainables.atomic import replace_file


def show(outcome: Outcome, sweep: Sweep, folder: Path, script: Path, argv: Sequence[str], report: bool) -> None:
    """Print the summary; write `end.yaml`, `best/config.yaml` and, with `report`, report.html; log them in MLflow."""
    keep_end(folder, outcome)
    records, best = list(outcome.recorder.records.values()), outcome.recorder.best()
    print()
    print_table(records, outcome.baselines)
    for line in outcome.recorder.conclusions():
        print(line)
    if outcome.cause:
        print(
            f"stopped: the same failure {SAME} times in a row, {outcome.cause}; see {folder / 'tune'}/<trial>/error.txt"
        )
    if outcome.interrupted:
        why = "" if outcome.cause else "interrupted; "
        print(f"{why}everything done so far is kept. Go on with:\n  {resume_command(sweep.name, script, argv)}")
    print_finals(outcome.recorder.confirmation, outcome.recorder.earlier)
    if best is None:
        failed = outcome.recorder.none_is_usable()
        print("every trial failed or diverged" if failed else "no trial has a score yet", f"see {folder}", sep="; ")
    else:
        trust = trust_flags(sweep.pairs, script)
        command = shlex.join([program_path("espalier"), "reproduce", str(folder), *trust])
        for line in gain_lines(best, outcome.untouched.get(best.pair, {}), outcome.baselines):
            print(line)
        keep_config(folder, sweep, best, command)
        outcome.tracking.log_winner(best.trial_id)
        print(f"train the winner again:\n  {command}")
    outcome.tracking.log_leaderboard(records)
    page = make_report(folder) if report else None
    if page is not None:
        outcome.tracking.log_plots()
    outcome.tracking.flush()  # the address of the page is known only after the first events have arrived
    if outcome.dollars is not None:
        print(f"cost: {outcome.dollars:.2f} dollars for {len(records)} trials")
        print(f"the cluster costs {outcome.hourly:.2f} dollars an hour until `ray down`")
    print(f"report: {page or folder / 'leaderboard.md'}; {outcome.seconds / 60:.1f} min")
    print(f"MLflow: {outcome.tracking.address()}")


def resume_command(name: str, script: Path, argv: Sequence[str]) -> str:
    """Return the command that resumes a sweep: its flags, with its name and `--resume`."""
    named = [] if has_name(argv) else ["--name", name]
    python = program_path(Path(sys.executable).name)
    return shlex.join([python, str(script), *(a for a in argv if a != "--resume"), *named, "--resume"])


def gain_lines(best: TrialRecord, untouched: Mapping[str, Any], baselines: Mapping[str, float]) -> list[str]:
    """Return lines about the gain over the untouched base, in points of score: answer format and skill.

    What a trivial strategy reaches, too, needs no skill, though the base's own completions do not have it.
    """
    won = gain(best.score, untouched)
    if won is None or best.score is None:
        return []
    before = f"untouched base {100 * won.before:.1f} %, right in any format {100 * won.lenient:.1f} %"
    if won.total < 0:
        return [f"{before}; best {100 * best.score:.1f} %: training lost {-won.total:.1f} points"]
    name, trivial = max(trivial_baselines(baselines).items(), key=lambda one: one[1], default=("", 0.0))
    in_doubt = won.skill > 0 and best.score <= trivial
    doubt = f"; {name} reaches {100 * trivial:.1f} %, so it may be none" if in_doubt else ""
    return [
        f"{before}; best {100 * best.score:.1f} %",
        f"gain {won.total:+.1f} points, of which answer format {won.form:.1f} and skill {won.skill:.1f}{doubt}",
    ]


def keep_config(folder: Path, sweep: Sweep, best: TrialRecord, command: str) -> None:
    """Write `best/config.yaml`: the trial, its score, and the command that trains it again."""
    target = folder / BEST
    target.mkdir(exist_ok=True)
    job = job_of(Run.read(folder), best.trial_id)
    params = best.params.flat(sweep.pair_names)
    facts: dict[str, Any] = {"trial_id": best.trial_id, "learner": best.pair, "params": params}
    facts |= {"rounds": job.rounds, "seed": job.seed, "split": job.split, "score": job.score, "command": command}
    replace_file(target / "config.yaml", yaml.safe_dump(facts, sort_keys=False).encode())


def make_report(folder: Path) -> Path | None:
    """Write `report.html` and its plots. An error is printed, so that it does not hide the sweep's results."""
    from sweeps.report.page import write_report  # altair takes a second to import

    try:
        return write_report(folder)
    except Exception as error:
        print(f"warning: no report ({type(error).__name__}: {error}); see why with `espalier report {folder}`")
        return None


def keep_end(folder: Path, outcome: Outcome) -> None:
    """Write `end.yaml`, which `Run` reads: facts that are known only at the end."""
    untouched = {
        pair: {name: value for name, value in metrics.items() if isinstance(value, float | int)}
        for pair, metrics in outcome.untouched.items()
    }
    facts: dict[str, Any] = {
        "baselines": outcome.baselines,
        "untouched": untouched,
        "seconds": round(outcome.seconds, 1),
    }
    facts |= {"interrupted": outcome.interrupted, "seating": outcome.placement}
    if outcome.dollars is not None:
        facts["dollars"] = round(outcome.dollars, 4)
    replace_file(folder / END_FILE, yaml.safe_dump(facts, sort_keys=False).encode())


def program_path(program: str) -> str:
    """Return how to call a program of this environment: by its name if PATH finds it, else by its path."""
    beside, found = Path(sys.executable).with_name(program), shutil.which(program)
    if not beside.is_file() or (found and Path(found).parent.samefile(beside.parent)):
        return program
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)
