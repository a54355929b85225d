"""`espalier export`: write a trial's adapter, or a merged model, to a new folder with all that others need to use it.

What is written and which tools take it is listed in docs/how-to/export.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import tyro

from sweeps.commands.arc_submission import submit
from sweeps.commands.model_card import NO_EXAMPLE, card
from sweeps.commands.reproduce import train
from sweeps.results.run_folder import BEST, Run
from sweeps.results.terminal import print
from sweeps.spec.deserialize import rebuild
from sweeps.spec.open_run import Job, job_of, open_run, trial_of
from sweeps.spec.trust import apply_trust
from trainables.atomic import copy_folder
from trainables.bad_input import BadInput
from trainables.core import Pair

if TYPE_CHECKING:
    from trainables.models.portable import Origin

NOT_EXPORTED = {"config.yaml"}  # files of best/ that do not belong to the model


@dataclass(frozen=True)
class ExportOptions:
    """The flags of `espalier export`."""

    to: Path | None = None  # a new folder
    trial: str = "best"  # best (copied from best/), or a number or id, which is trained again
    merge: bool = False  # write a whole model, which transformers loads without PEFT
    # the base's name on the hub, where the sweep had a copy of it; a base that is not there is copied, too
    base: str | None = None
    register: str | None = None  # a name in MLflow's model registry; the export becomes its new version
    # a file for answers in arcprize.org's format, to the tasks without test outputs, or the test split
    submission: Path | None = None
    # files or modules with learners and tasks that are not Espalier's; folder: the base may run its own code
    trust: tuple[str, ...] = ()


def export(run: Path, /, options: Annotated[ExportOptions, tyro.conf.arg(name="")]) -> None:
    """Export a trial of runs/X: a PEFT adapter with its tokenizer and a model card.

    Args:
        run: the sweep's folder
    """
    apply_trust(options.trust)
    source, to = open_run(run), options.to
    if options.submission:
        print(submit(source, trial_of(source, options.trial), options.submission))
        if to is None:
            return
    if to is None:
        raise BadInput("nothing to export to; give --to FOLDER, or --submission FILE")
    job = job_of(source, options.trial)
    if to.exists():
        raise BadInput(f"--to {to} exists; give a new folder")
    if options.base is not None:
        _check_hub_name(options.base)
    said = write(source, job, to, options.merge, options.base or "")
    what = "model" if options.merge else "adapter"
    print(f"{what} of trial {job.record.number} in {to}, with its card in {to / 'README.md'}")
    for line in said:
        print(line)
    if options.register:
        from sweeps.tracking.registry import register as registered

        print(registered(source.folder, job.record.trial_id, options.register, to))


def write(run: Run, job: Job, to: Path, merge: bool, hub: str = "", keep_dtype: bool = False) -> list[str]:
    """Write an export into a new folder, which is there only if it is complete; return remarks, a line each.

    `hub`: the base's name on the hub, if it is not the one in the sweep. `keep_dtype`: merge into the dtype of the
    training, not into that of the base. Raise BadInput.
    """
    from trainables.models.loading import UnknownBase

    sweep = rebuild(run.facts)
    pair = sweep.resolve(job.record.params)
    if merge and (not pair.learner.needs_base or pair.learner.per_example):
        raise BadInput(f"--merge: {pair.learner.name} has no single adapter to merge into a base; leave --merge out")
    with _complete_or_absent(to) as made:
        adapter = made.with_name(f"{made.name}.adapter") if merge else made
        _write_adapter(run, job, adapter)
        if merge:
            _merge(pair, adapter, made, keep_dtype)
        try:
            origin = _pack(pair, made, hub)
        except UnknownBase as error:
            raise BadInput(str(error)) from error
        text = card(run, job, sweep, made, merge, origin)
        (made / "README.md").write_text(text, encoding="utf-8")
    return [*_about_base(origin, to), *([NO_EXAMPLE] if NO_EXAMPLE in text else [])]


def _pack(pair: Pair, made: Path, hub: str) -> Origin | None:
    """Put tokenizer and base beside what was trained; return where others find the base, None for other networks."""
    if not (pair.learner.needs_base and pair.learner.base_answers):
        return None
    from trainables.models.portable import Origin, hub_name, pack_adapter, save_tokenizer, short_name

    if not (made / "config.json").is_file():
        return pack_adapter(pair.base, made, hub)
    save_tokenizer(pair.base, made)
    return Origin(short_name(pair.base), hub or hub_name(pair.base))


def _merge(pair: Pair, adapter: Path, made: Path, keep_dtype: bool) -> None:
    from trainables.models.merge import merge, trained_dtype

    try:
        merge(pair.base, adapter, made, trained_dtype(pair.base) if keep_dtype else None)
    except ValueError as error:
        raise BadInput(f"--merge: {error}") from error


def _about_base(origin: Origin | None, to: Path) -> list[str]:
    """Say what else was written, or what is missing."""
    from trainables.models.portable import BASE_FOLDER

    if origin is None or origin.hub or (to / "config.json").is_file():
        return []
    if origin.brought:
        return [f"its base is not on the hub and was copied, too ({origin.brought / 1e6:.1f} MB): {to / BASE_FOLDER}"]
    return [f"its base {origin.name} is not on this machine: put it into {to / BASE_FOLDER}, or name it with --base"]


def _check_hub_name(base: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(base)
    except HFValidationError as error:
        raise BadInput(f"--base {base} is not the name of a model on the hub; give OWNER/NAME") from error


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
