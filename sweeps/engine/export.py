"""`espalier export`: a trial's adapter, or a merged model, in a folder of its own with a model card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from sweeps.engine.rebuild import rebuild
from sweeps.engine.reproduce import BEST, Job, job_of, open_run, train, trial_of
from sweeps.engine.submission import submit
from sweeps.engine.sweep import BadInput, Sweep
from sweeps.results.finals import verdict
from sweeps.results.leaderboard import percent, span
from sweeps.results.run import Run
from trainables.bases import BaseName

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

    `--to`: a new folder. `--trial`: best (as it lies in best/), or a number or id, which is trained again. `--merge`: a
    whole model that transformers loads by itself. `--register NAME`: also a new version in MLflow's model registry.
    `--submission FILE`: of ARC, in the official format: answers to the tasks without test outputs, where the data has
    such, else a finalist's answers to the test split.
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
    if merge and (not pair.learner.needs_base or getattr(pair.learner, "per_example", False)):
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
        from sweeps.engine.registry import register as registered

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


def card(run: Run, job: Job, sweep: Sweep, folder: Path, merged: bool) -> str:
    """A model card: the hub's front matter, what was measured and how sure that is, and how to load it."""
    pair, fields = sweep.resolve(job.record.params)
    answers = pair.learner.needs_base and getattr(pair.learner, "base_answers", True)
    source = BaseName.parse(pair.base).source if answers else None
    head: dict[str, Any] = {"tags": ["espalier", pair.learner.name, pair.task.name]}
    head |= {"base_model": source, "library_name": "transformers" if merged else "peft"} if source else {}
    untouched = next((one.score for one in run.finals if one.trial_id is None), None)
    lines = [
        f"# {sweep.name}: {pair.learner.name} on {pair.task.name}",
        "",
        f"Trial {job.record.number} of {len(run.records)} of the sweep `{sweep.name}`; base `{pair.base}`.",
        "",
        f"- Score: {percent(job.score)} on the {job.split} split (95 %: {span(job.interval)}),"
        f" after {job.rounds} rounds with seed {job.seed}.",
        *([f"- Untouched base on the same questions: {percent(untouched)}."] if untouched is not None else []),
        *(f"- {line}." for line in (verdict(run.finals, run.clusters, run.trivial) if run.finals else [])),
        *(f"- {remark}." for remark in run.facts.get("guards", [])),
        f"- Data: {pair.task.name}, fingerprint {run.facts['data_fingerprints'][pair.task.name]}.",
        f"- Made with {', '.join(f'{name} {v}' for name, v in run.facts['versions'].items() if v)};"
        f" commit {run.facts['commit'] or 'unknown'}.",
        "",
        "## Configuration",
        "",
        *(f"- {name}: {value}" for name, value in fields.items()),
        "",
        "## Use",
        "",
        *_use(pair.base if source else None, folder, merged),
        "",
    ]
    return "\n".join(["---", yaml.safe_dump(head, sort_keys=False).strip(), "---", "", *lines])


def _use(base: str | None, folder: Path, merged: bool) -> list[str]:
    if base is None:
        return ["A learner with a network of its own; its weights are `*.safetensors`."]
    from trainables.adapters import LORA_FOLDER

    name = folder.name
    if merged or (folder / "config.json").is_file():
        return ["```python", "from transformers import AutoModelForCausalLM", "",
                f'model = AutoModelForCausalLM.from_pretrained("{name}")', *_ending(base), "```"]  # fmt: skip
    load = [f'model = AutoModelForCausalLM.from_pretrained("{BaseName.parse(base).source}")']
    if (folder / LORA_FOLDER).is_dir():
        load += [f'model = PeftModel.from_pretrained(model, "{name}/{LORA_FOLDER}").merge_and_unload()',
                 f'model = PeftModel.from_pretrained(model, "{name}/soft_prompt")']  # fmt: skip
    else:
        own = "" if (folder / "adapter_config.json").is_file() else "/<task id>"  # an adapter for each ARC task
        load += [f'model = PeftModel.from_pretrained(model, "{name}{own}")']
    imports = ["from peft import PeftModel", "from transformers import AutoModelForCausalLM", ""]
    return ["```python", *imports, *load, *_ending(base), "```"]


def _ending(base: str) -> list[str]:
    """Where `generate` is to stop: a base's own configuration may name another token than the one that was learned."""
    from trainables.bases import UnknownBase, tokenizer
    from trainables.chat import turn_end

    try:
        own = tokenizer(base)
    except UnknownBase:  # it is not on this machine
        return []
    end = turn_end(own)
    return [f"model.generation_config.eos_token_id = {end}  # {own.convert_ids_to_tokens(end)}, which ends its answers"]
