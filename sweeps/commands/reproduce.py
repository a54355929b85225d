"""`espalier reproduce`: train a trial of an earlier sweep again from `sweep.yaml` alone, and compare."""

from __future__ import annotations

import filecmp
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeps.persistence.number_variables import use_again
from sweeps.persistence.provenance import describe
from sweeps.results.leaderboard import percent, span
from sweeps.results.run_folder import Run
from sweeps.results.terminal import print
from sweeps.spec.deserialize import rebuild
from sweeps.spec.error_policy import Status
from sweeps.spec.open_run import Job, job_of, open_run
from sweeps.spec.sweep import data_fingerprint
from sweeps.spec.trust import apply_trust, refuse_user_code
from trainables.bad_input import BadInput, one_line
from trainables.core import Example, Learner, Pair, Task
from trainables.packed.specs import Shape
from trainables.runtime.trial import load_start_state, open_learner


def train(run: Run, job: Job, examples: Sequence[Example] | None = None) -> Any:
    """Train a job again, in a host of the same shape and with as many threads, and return its learner.

    `examples` replace the job's split for evaluation. Raises BadInput if the data or a GGUF base has changed, or if the
    base cannot be loaded.
    """
    sweep = rebuild(run.facts)
    pair = sweep.resolve(job.record.params)
    refuse_user_code(pair.task)
    check_data(run, pair.task)
    _check_base(pair)
    if examples is None and job.split != "search":
        examples = pair.task.split(job.split)
    if examples is not None:
        pair = replace(pair, task=pair.task.with_search(examples))
    seating = run.end.get("seating", {})
    if "variables" in run.facts:
        use_again(run.facts["variables"])
    import torch

    torch.set_num_threads(seating.get("threads", 1))
    try:
        shape = Shape(**seating["shape"]) if seating.get("shape") else None
    except TypeError as error:
        raise BadInput("end.yaml:", f"the shape of the host: {error}") from error
    learner = open_learner(pair, job.seed, shape=shape)
    for number in range(_rounds_before(run, job, learner), job.rounds):
        loss = learner.round().loss
        print(f"round {number + 1} of {job.rounds}: loss {loss:.4f}", flush=True)
    return learner


def check_data(run: Run, task: Task) -> None:
    """Raise BadInput unless the task's data is what the sweep had: sweep.yaml may name any file of this machine."""
    then = run.facts.get("data_fingerprints", {}).get(task.name)
    try:
        now = data_fingerprint(task)
    except (OSError, ValueError) as error:
        raise BadInput(f"the data of task {task.name!r}:", one_line(error)) from error
    if then != now:
        raise BadInput(f"the data of task {task.name!r}", f"was {then} and is now {now}", "go back to the data it had")


def _check_base(pair: Pair) -> None:
    if not pair.learner.needs_base:
        return
    from trainables.models.loading import check_base  # imports torch

    check_base(pair.base)


def _rounds_before(run: Run, job: Job, learner: Learner) -> int:
    """Load the state from which a clone started; return after how many rounds it was kept, 0 for other trials."""
    from trainables.states import UnreadableState  # imports torch

    start = job.record.params.start
    if start is None:
        return 0
    try:
        return load_start_state(learner, run.folder, start)
    except FileNotFoundError as error:
        raise BadInput(f"trial {job.record.number}", f"is a clone, and {run.folder / start} is not there") from error
    except UnreadableState as error:
        commit = run.facts.get("commit") or "the code that made it"
        raise BadInput(
            f"trial {job.record.number}:", f"{start}: {error}", f"git checkout {commit} to read it"
        ) from error
    except ValueError as error:
        raise BadInput(f"trial {job.record.number}:", str(error)) from error


def reproduce(run: Path, /, trial: str = "best", to: Path | None = None, trust: tuple[str, ...] = ()) -> None:
    """Train a trial of runs/X again from its sweep.yaml, and check that its score lies in the interval.

    Exit status 1 if the score is not what was claimed.

    Args:
        run: the sweep's folder
        trial: best, a number or an id
        to: a new folder for what was trained
        trust: files or modules with learners and tasks that are not Espalier's; folder: the base may run its own code
    """
    apply_trust(trust)
    left = open_run(run)
    job = job_of(left, trial)
    if to is not None and to.exists():
        raise BadInput(f"--to {to}", "exists", "give a new folder")
    low, high = job.interval
    where = f"{percent(job.score)} on the {job.split} split after {job.rounds} rounds with seed {job.seed}"
    print(f"trial {job.record.number} scored {where} (95 %: {span((low, high))})", flush=True)
    learner = train(left, job)
    evaluation = learner.evaluate()
    score = evaluation.score
    with tempfile.TemporaryDirectory() as scratch:
        learner.save(scratch)
        learner.close()
        same = _same(Path(scratch), left.best) if left.trial("best") is job.record else None
        if to is not None:
            shutil.copytree(scratch, to)
    print(f"again: {percent(score)}{_similarity(evaluation.items, job, same)}")
    if not low <= score <= high:
        print(f"not reproduced: {percent(score)} is outside {span((low, high))}; {_changed(left)}")
        raise SystemExit(Status.NO)
    print("reproduced: the score lies in the interval")


def _similarity(items: Sequence[float], job: Job, same: bool | None) -> str:
    """Say how many answers, and whether the weights, are as before."""
    if not job.items:
        return ""
    differ = sum(now != then for now, then in zip(items, job.items, strict=True))
    answers = f", {differ} of {len(items)} answers scored otherwise" if differ else ", every answer scored the same"
    weights = {None: "", True: "; the weights are bit for bit those in best/", False: "; the weights differ from best/"}
    return answers + weights[same]


def _same(one: Path, other: Path) -> bool | None:
    """Whether all weights that were saved have the same bytes; None if `other` has none."""
    names = [path.name for path in one.glob("*.safetensors")]
    if not names or not all((other / name).is_file() for name in names):
        return None
    return not any(filecmp.cmpfiles(one, other, names, shallow=False)[1:])


def _changed(run: Run) -> str:
    """Say which versions and commit have changed since."""
    now = describe(rebuild(run.facts))
    then = run.facts.get("versions", {})
    changes = [f"{name} was {old}" for name, old in then.items() if old != now["versions"].get(name)]
    commit = run.facts.get("commit")
    changes += [f"the commit was {commit}"] if commit != now["commit"] else []
    return "since then: " + ", ".join(changes) if changes else "versions and commit are as they were"
