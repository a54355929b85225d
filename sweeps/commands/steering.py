"""`espalier status`, `report`, `stop` and `clone`: look at a sweep, end one of its trials, try a variant of another."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import optuna
import tyro

from search_spaces.names import without_prefix
from search_spaces.space import SpaceError
from sweeps.commands.which_sweep import meant
from sweeps.persistence.lock import driver
from sweeps.persistence.study import opened, storage_of, taken
from sweeps.results import plain
from sweeps.results.finals import print_finals
from sweeps.results.leaderboard import percent, print_table
from sweeps.results.records import TrialRecord, winner
from sweeps.results.run_folder import DATABASE, Run
from sweeps.results.terminal import print, print_json
from sweeps.results.trial_params import TrialParams
from sweeps.spec.config_fields import cast, read_value
from sweeps.spec.deserialize import rebuild
from sweeps.spec.error_policy import Ended
from sweeps.spec.open_run import check_no_links, open_run, trial_of
from sweeps.spec.sweep import Sweep
from sweeps.spec.trust import apply_trust, without_trust
from sweeps.tuning.optuna_searcher import enqueue
from sweeps.tuning.stopping import STOP_FOLDER
from sweeps.tuning.summary import gain_lines, resume_command
from trainables.atomic import replacing
from trainables.bad_input import BadInput, reading
from trainables.options import weight_shapes
from trainables.runtime.trial import CLONES, ROUND_FILE, STATE_FILE

Json = Annotated[bool, tyro.conf.arg(name="json")]


def status(run: Path | None = None, /, cluster: Path | None = None, as_json: Json = False) -> Ended | None:
    """Say how a sweep stands: its trials by state, the best so far, finalists.

    Args:
        run: the sweep's folder; none: the one that runs, or else the latest in runs/
        cluster: a cluster's file: join the sweep there, watch it to its end, and bring it home
        as_json: print one line of JSON, as docs/reference/json.md describes it
    """
    if cluster is not None:
        if as_json:
            raise BadInput("--cluster", "watches a sweep and prints text", "ask with --json when it is at home")
        from sweeps.resources.ray_job import rejoin

        return rejoin(cluster, run)
    left = open_run(meant(run))
    if as_json:
        print_json("status", _standing(left))
    else:
        _print_status(left)
    return None


def state_of(left: Run, process: int | None) -> str:
    """Return `running`, `interrupted`, `ended`, or `stopped`: it does not run, and is not at its end."""
    if process:
        return "running"
    if not left.end:
        return "stopped"
    return "interrupted" if left.end.get("interrupted") else "ended"


def expected_trials(left: Run) -> int:
    design = left.facts.get("design")  # with --minutes, where more trials may start than are expected
    return int(design["trials"] if design else left.facts["sweep"]["num_samples"])


def _resume(left: Run, process: int | None) -> str | None:
    """Return the command with which a sweep goes on, if it was stopped."""
    if process or (left.end and not left.end.get("interrupted")):
        return None
    script, *argv = left.facts.get("command", ["SCRIPT"])
    return resume_command(left.facts["sweep"]["name"], Path(script), without_trust(argv))


def _standing(left: Run) -> dict[str, Any]:
    """Return the status as plain values."""
    process, known = driver(left.folder), left.confirmation
    board = plain.leaderboard(left.records, left.end.get("baselines", {}))
    best = winner(left.records, left.finals)
    return {
        "folder": str(left.folder),
        "state": state_of(left, process),
        "process": process,
        "expected_trials": expected_trials(left),
        "counts": plain.counts(left.records),
        "best": next((one for one in board["trials"] if best and one["trial_id"] == best.trial_id), None),
        "finalists": plain.finalists(known),
        "verdict": plain.verdict(known),
        "resume": _resume(left, process),
    }


def _print_status(left: Run) -> None:
    sweep, records = left.facts["sweep"], left.records  # no class of it is needed
    process = driver(left.folder)
    states = {"running": f"running (process {process})", "stopped": "not running, and not at its end"}
    state = states.get(name := state_of(left, process), name)
    said = ", ".join(f"{count} {name}" for name, count in plain.counts(records).items())
    total = f"{'about ' if left.facts.get('design') else ''}{expected_trials(left)}"
    said = said or "no trial has ended a round yet"
    print(f"{left.folder}: {state}; {len(records)} of {total} trials: {said}")
    for one in records:
        if one.status == "running" and process:
            print(f"  trial {one.number}: round {one.rounds} of {sweep['rounds']}, {percent(one.last_score)}")
    print_table(records, left.end.get("baselines", {}))
    print_finals(left.confirmation, left.earlier_looks)
    if left.is_look_due:
        print(f"these finalists are of the first {left.facts['more_trials'][-1]} trials; others follow the search")
    if left.end and (best := winner(records, left.finals)):
        for line in gain_lines(best, left.end.get("untouched", {}).get(best.pair, {}), left.end.get("baselines", {})):
            print(line)
    if command := _resume(left, process):
        print(f"go on with: {command}")


def leaderboard(run: Path | None = None, /, as_json: Json = False) -> None:
    """Print all trials of a sweep's search, best first, and what may be concluded from their scores.

    Args:
        run: the sweep's folder; none: the one that runs, or else the latest in runs/
        as_json: print one line of JSON, as docs/reference/json.md describes it
    """
    left = open_run(meant(run))
    baselines = left.end.get("baselines", {})
    if as_json:
        print_json("leaderboard", {"folder": str(left.folder)} | plain.leaderboard(left.records, baselines))
    else:
        print_table(left.records, baselines, top=len(left.records))


def report(run: Path | None = None, /, as_json: Json = False) -> None:
    """Write report.html and its plots of a sweep, finished or not.

    Args:
        run: the sweep's folder; none: the one that runs, or else the latest in runs/
        as_json: print one line of JSON, as docs/reference/json.md describes it
    """
    from sweeps.report.headline import headline
    from sweeps.report.page import write_report  # altair takes a second to import

    left = open_run(meant(run))
    page = write_report(left.folder)
    if as_json:
        facts = {"folder": str(left.folder), "report": str(page), "headline": headline(left)}
        print_json("report", facts | {"verdict": plain.verdict(left.confirmation)})
    else:
        print(page)


def stop(trial: str, /, run: Path | None = None) -> None:
    """End a trial of a running sweep after the round it is in.

    Args:
        trial: its number, as `espalier status` has it, or its id
        run: the sweep's folder; none: the one that runs, or else the latest in runs/
    """
    print(stop_trial(trial, meant(run)))


def stop_trial(trial: str, folder: Path) -> str:
    """End a trial of the running sweep in a folder, and return a line that says so. Raises BadInput."""
    left = _running(folder)
    record = trial_of(left, trial)
    if record.status not in ("running", "paused"):
        raise BadInput(f"trial {record.number} {record.status}:", "only a running or paused trial can be stopped")
    (left.folder / STOP_FOLDER).mkdir(exist_ok=True)
    (left.folder / STOP_FOLDER / record.trial_id).touch()
    when = " after the round it is in" if record.status == "running" else ""
    return f"{left.folder}: trial {record.number} stops{when}"


def clone(trial: str, values: tuple[str, ...] = (), /, run: Path | None = None, trust: tuple[str, ...] = ()) -> None:
    """Start a new trial from another's last checkpoint with changed values: `espalier clone 3 learning_rate=3e-4`.

    It takes the place of the next trial that the search would suggest, and counts its rounds on from the other's.

    Args:
        trial: the other's number, as `espalier status` has it, or its id
        values: AXIS=VALUE, one or more
        run: the sweep's folder; none: the one that runs, or else the latest in runs/
        trust: files or modules with the learners and tasks that are not Espalier's
    """
    apply_trust(trust)
    print(clone_trial(trial, values, meant(run)))


def clone_trial(trial: str, values: tuple[str, ...], folder: Path) -> str:
    """Start a variant of a trial of the running sweep in a folder, and return a line that says so. Raises BadInput."""
    left = _running(folder)
    record, sweep = trial_of(left, trial), rebuild(left.facts, remote_code=True)  # loads no base
    fields = _changed(sweep, record.params, values)
    with reading(left.folder / DATABASE):
        study = optuna.load_study(study_name=sweep.name, storage=opened(storage_of(left.folder)))
    if len(taken(study)) >= sweep.num_samples:
        raise BadInput(f"all {sweep.num_samples} trials of {left.folder}", "are taken, and a clone would be one more")
    ended = sweep.minutes is not None and all(one.status not in ("running", "paused") for one in left.records)
    if ended or (left.folder / "finalists").is_dir():
        raise BadInput(f"the search of {left.folder}", "is over, and no further trial starts")
    if record.rounds >= sweep.rounds:
        raise BadInput(f"trial {record.number}", f"has run all {sweep.rounds} rounds", "clone one that has rounds left")
    kept, round_ = _kept_state(left, record)
    if round_ >= sweep.rounds:  # the leaderboard may be a few seconds old
        raise BadInput(f"trial {record.number}", f"has run all {sweep.rounds} rounds", "clone one that has rounds left")
    enqueue(study, TrialParams(record.pair, fields, kept), sweep.pair_names)
    start = f"trial {record.number} after round {round_}"
    return f"{left.folder}: the next trial goes on from {start} with {', '.join(values)}"


def _kept_state(left: Run, record: TrialRecord) -> tuple[str, int]:
    """Copy a trial's latest state to where a clone finds it; return that place below the folder, and the round.

    Raises BadInput without a checkpoint. The driver may delete it at any moment, if the trial ends.
    """
    for checkpoint in sorted((left.folder / "tune" / record.trial_id).glob("checkpoint_*"), reverse=True):
        if (round_ := _round_of(checkpoint)) is None:
            continue
        kept = f"{CLONES}/trial-{record.number}-round-{round_}.pt"
        (left.folder / kept).parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError), replacing(left.folder / kept) as fresh:  # a clone may be starting from it
            shutil.copy(checkpoint / STATE_FILE, fresh)
            return kept, round_
    if record.status in ("running", "paused"):
        raise BadInput(
            f"trial {record.number}",
            "has no checkpoint yet, or has just ended",
            "wait for its first round, or start the next sweep with --keep",
        )
    raise BadInput(
        f"trial {record.number}",
        f"{record.status}, and its checkpoints are deleted",
        "clone one that runs or is paused, or start the next sweep with --keep",
    )


def _round_of(checkpoint: Path) -> int | None:
    """The round after which it was saved; None while its files, which Tune copies in place, are not there in full."""
    try:
        round_, size = map(int, (checkpoint / ROUND_FILE).read_text().split())
        return round_ if (checkpoint / STATE_FILE).stat().st_size == size else None
    except (FileNotFoundError, ValueError):
        return None


def _running(folder: Path) -> Run:
    left = open_run(folder)
    if driver(left.folder) is None:
        over = left.end and not left.end.get("interrupted")
        remedy = "has ended; start another" if over else "is not running; start it again with --resume"
        raise BadInput(f"{left.folder} {remedy}")
    check_no_links(left.folder)
    return left


def _changed(sweep: Sweep, params: TrialParams, values: tuple[str, ...]) -> dict[str, Any]:
    """Return a trial's fields with other values. Raise BadInput for a name that is no axis, or a value out of range."""
    if not values:
        raise BadInput("say what is to change, as in:", "espalier clone 3 learning_rate=3e-4")
    pair, fields = sweep.resolve(params), dict(params.fields)
    for text in values:
        label, equals, value = text.partition("=")
        name = without_prefix(params.learner, without_prefix(params.pair, label))  # as the flags of a sweep have it
        if not equals or name not in fields:
            raise BadInput(f"{text}: write AXIS=VALUE with an axis of this trial: {', '.join(fields)}")
        if name in weight_shapes(pair.learner):
            raise BadInput(
                f"{text}: the trial's trained weights have the shape of its own {name}; start a trial of its own"
            )
        fields[name] = cast(pair.learner, name, read_value(text, value))
    try:
        sweep.space_of(pair).validate(fields)
    except SpaceError as error:
        raise BadInput(str(error)) from error
    sweep.resolve(TrialParams(params.pair, fields))  # raises BadInput where the learner refuses them
    return fields
