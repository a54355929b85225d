"""`espalier export`: a trial's adapter, or a merged model, in a folder of its own with a model card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sweeps.commands.arc_submission import submit
from sweeps.commands.model_card import card
from sweeps.commands.reproduce import train
from sweeps.results.run_folder import BEST, Run
from sweeps.spec.deserialize import rebuild
from sweeps.spec.open_run import Job, job_of, open_run, trial_of
from sweeps.spec.sweep import BadInput
from trainables.atomic import copy_folder

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
    pair = sweep.resolve(job.record.params)
    if merge and (not pair.learner.needs_base or pair.learner.per_example):
        raise BadInput(f"--merge: {pair.learner.name} has no one adapter to merge into a base; leave --merge out")
    with _whole(to) as made:
        adapter = made.with_name(f"{made.name}.adapter") if merge else made
        _bring_adapter(left, job, adapter)
        if merge:
            from trainables.models.merge import merge as merged

            try:
                merged(pair.base, adapter, made)
            except ValueError as error:
                raise BadInput(f"--merge: {error}") from error
        (made / "README.md").write_text(card(left, job, sweep, made, merge))
    print(
        f"{'model' if merge else 'adapter'} of trial {job.record.number} in {to}, with its card in {to / 'README.md'}"
    )
    if register:
        from sweeps.tracking.registry import register as registered

        print(registered(left.folder, job.record.trial_id, register, to))


@contextmanager
def _whole(to: Path) -> Iterator[Path]:
    """A path for a new folder of this name, which is `to` once all of it is made. Until then everything lies in a
    temporary folder beside it, on the same disk, and nothing outside that is ever deleted."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as scratch:
        made = Path(scratch) / to.name
        yield made
        made.rename(to)


def _bring_adapter(run: Run, job: Job, folder: Path) -> None:
    """Make a folder with what was trained: a copy of best/, or another trial trained again."""
    if run.trial("best") is job.record:
        copy_folder(run.folder / BEST, folder, *OURS)
        return
    learner = train(run, job)
    folder.mkdir()
    learner.save(str(folder))
    learner.close()
