"""`espalier export`: write a trial's adapter, or a merged model, to a new folder with a model card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sweeps.commands.arc_submission import submit
from sweeps.commands.model_card import card
from sweeps.commands.reproduce import train
from sweeps.results.run_folder import BEST, Run
from sweeps.results.terminal import print
from sweeps.spec.deserialize import rebuild
from sweeps.spec.open_run import Job, job_of, open_run, trial_of
from sweeps.spec.sweep import BadInput
from sweeps.spec.trust import apply_trust
from trainables.atomic import copy_folder

NOT_EXPORTED = {"config.yaml"}  # files of best/ that do not belong to the model


def export(
    run: Path,
    /,
    to: Path | None = None,
    trial: str = "best",
    merge: bool = False,
    register: str | None = None,
    submission: Path | None = None,
    trust: tuple[str, ...] = (),
) -> None:
    """Export a trial of runs/X: a PEFT adapter with a model card.

    Args:
        run: the sweep's folder
        to: a new folder
        trial: best (copied from best/), or a number or id, which is trained again
        merge: write a whole model, which transformers loads without PEFT
        register: a name in MLflow's model registry; the export becomes its new version
        submission: a file for answers in arcprize.org's format, to the tasks without test outputs, or the test split
        trust: files or modules with learners and tasks that are not Espalier's; folder: the base may run its own code
    """
    apply_trust(trust)
    source = open_run(run)
    if submission:
        print(submit(source, trial_of(source, trial), submission))
        if to is None:
            return
    if to is None:
        raise BadInput("nothing to export to; give --to FOLDER, or --submission FILE")
    job = job_of(source, trial)
    if to.exists():
        raise BadInput(f"--to {to} exists; give a new folder")
    sweep = rebuild(source.facts)
    pair = sweep.resolve(job.record.params)
    if merge and (not pair.learner.needs_base or pair.learner.per_example):
        raise BadInput(f"--merge: {pair.learner.name} has no single adapter to merge into a base; leave --merge out")
    with _complete_or_absent(to) as made:
        adapter = made.with_name(f"{made.name}.adapter") if merge else made
        _write_adapter(source, job, adapter)
        if merge:
            from trainables.models.merge import merge as merged

            try:
                merged(pair.base, adapter, made)
            except ValueError as error:
                raise BadInput(f"--merge: {error}") from error
        (made / "README.md").write_text(card(source, job, sweep, made, merge))
    print(
        f"{'model' if merge else 'adapter'} of trial {job.record.number} in {to}, with its card in {to / 'README.md'}"
    )
    if register:
        from sweeps.tracking.registry import register as registered

        print(registered(source.folder, job.record.trial_id, register, to))


@contextmanager
def _complete_or_absent(to: Path) -> Iterator[Path]:
    """Yield a path for a new folder, which is renamed to `to` when the block ends without an error.

    Until then everything is in a temporary folder beside it, on the same disk. Nothing outside of that is deleted.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as scratch:
        made = Path(scratch) / to.name
        yield made
        made.rename(to)


def _write_adapter(run: Run, job: Job, folder: Path) -> None:
    """Write the trained weights to a new folder: a copy of best/, or another trial, which is trained again."""
    if run.trial("best") is job.record:
        try:
            copy_folder(run.folder / BEST, folder, *NOT_EXPORTED)
        except ValueError as error:  # a symbolic link
            raise BadInput(str(error)) from error
        return
    learner = train(run, job)
    folder.mkdir()
    learner.save(str(folder))
    learner.close()
