"""`espalier export`: a trial's adapter, or a merged model, in a folder of its own with a model card."""

from __future__ import annotations

import shutil
from pathlib import Path

from sweeps.engine.rebuild import rebuild
from sweeps.engine.sweep import BadInput
from sweeps.results.run import Run
from sweeps.verbs.card import card
from sweeps.verbs.reproduce import BEST, Job, job_of, open_run, train, trial_of
from sweeps.verbs.submission import submit

OURS = {"config.yaml"}  # of best/: what is not the model's


def export(
    run: Path,
    /,
    to: Path | None = None,
    trial: str = "best",
    merge: bool = False,
    register: str | None = None,
    submission: Path | None = None,
) -> None:
    """Take a trial of runs/X away: a PEFT adapter with a model card.

    Args:
        run: the sweep's folder
        to: a new folder
        trial: best (as it lies in best/), or a number or id, which is trained again
        merge: a whole model that transformers loads by itself
        register: a name in MLflow's model registry, which gets a new version
        submission: a file of answers as arcprize.org takes them: to the tasks without test outputs, or the test split
    """
    left = open_run(run)
    if submission:
        print(submit(left, trial_of(left, trial), submission))
        if to is None:
            return
    if to is None:
        raise BadInput("nothing to export to; give --to FOLDER, or --submission FILE")
    job = job_of(left, trial)
    if to.exists():
        raise BadInput(f"--to {to} exists; give a new folder")
    sweep = rebuild(left.facts)
    pair = sweep.resolve(job.record.params)[0]
    if merge and (not pair.learner.needs_base or pair.learner.per_example):
        raise BadInput(f"--merge: {pair.learner.name} has no one adapter to merge into a base; leave --merge out")
    adapter = _adapter(left, job, to.with_name(f".{to.name}.adapter"))
    try:
        if merge:
            from trainables.merging import merge as merged

            merged(pair.base, adapter, to)
        else:
            shutil.copytree(adapter, to, ignore=lambda _, names: OURS & {*names})
    except ValueError as error:
        raise BadInput(f"--merge: {error}") from error
    finally:
        if adapter != run / BEST:
            shutil.rmtree(adapter)
    (to / "README.md").write_text(card(left, job, sweep, to, merge))
    print(
        f"{'model' if merge else 'adapter'} of trial {job.record.number} in {to}, with its card in {to / 'README.md'}"
    )
    if register:
        from sweeps.verbs.registry import register as registered

        print(registered(run, job.record.trial_id, register, to))


def _adapter(run: Run, job: Job, scratch: Path) -> Path:
    """The folder with what was trained: best/, or another trial trained again."""
    if run.trial("best") is job.record:
        return run.folder / BEST
    learner = train(run, job)
    scratch.mkdir(parents=True)
    learner.save(str(scratch))
    learner.close()
    return scratch
