"""The model card of an export: the measured scores, and code that loads the model and prompts it as in the sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sweeps.commands.reproduce import check_data
from sweeps.results.finals import verdict
from sweeps.results.leaderboard import percent, span
from sweeps.results.records import UNTOUCHED, UNTRAINED
from sweeps.results.run_folder import SWEEP_FILE, Run
from sweeps.spec.open_run import Job
from sweeps.spec.sweep import Sweep
from trainables.bad_input import BadInput
from trainables.core import Example, Pair
from trainables.models.gguf import PACKAGED
from trainables.models.loading import DTYPES, BaseName, UnknownBase, model_folder
from trainables.models.tokenization import asking_form

if TYPE_CHECKING:
    from trainables.models.portable import Origin

OWN_NETWORK = "This learner trains networks of its own; their weights are `*.safetensors`, and its code reads them."
NO_EXAMPLE = "The card asks no question as an example: the sweep's data is not where it was, or is another now."
NO_TOKENIZER = "The prompt format depends on the base's tokenizer, which was not on this machine; export where it is."


def card(run: Run, job: Job, sweep: Sweep, folder: Path, merged: bool, origin: Origin | None) -> str:
    """Return a model card: the hub's front matter, scores with intervals, and how to load and prompt the model.

    `origin`: where others find the base; None for networks without one.
    """
    pair, fields = sweep.resolve(job.record.params), job.record.params.fields
    before, untouched = _before(run, job, pair)
    base = f"; base `{origin.name}`" if origin else ""
    lines = [
        f"# {sweep.name}: {pair.learner.name} on {pair.task.name}",
        "",
        f"Trial {job.record.number} of {len(run.records)} of the sweep `{sweep.name}`{base}.",
        "",
        *(_about_base(pair.base, folder, origin) if origin else []),
        f"- Score: {percent(job.score)} on the {job.split} split (95 %: {span(job.interval)}),"
        f" after {job.rounds} rounds with seed {job.seed}.",
        *([f"- {before} on the same questions: {percent(untouched)}."] if untouched is not None else []),
        *(f"- {line}." for line in (verdict(run.confirmation) if run.finals else [])),
        *(f"- {remark}." for remark in run.facts.get("guards", [])),
        f"- Data: {pair.task.name}, fingerprint {run.facts.get('data_fingerprints', {}).get(pair.task.name)}.",
        f"- Made with {', '.join(f'{name} {v}' for name, v in run.facts.get('versions', {}).items() if v)};"
        f" commit {run.facts.get('commit') or 'unknown'}.",
        "",
        "## Configuration",
        "",
        *(f"- {name}: {value}" for name, value in fields.items()),
        "",
        "## Use",
        "",
        *(_use(run, job, pair, folder, merged, origin.hub) if origin else [OWN_NETWORK]),
        "",
    ]
    return "\n".join(["---", yaml.safe_dump(_front_matter(pair, folder, origin)).strip(), "---", "", *lines])


def _front_matter(pair: Pair, folder: Path, origin: Origin | None) -> dict[str, Any]:
    """Return what the hub reads of a card. It refuses a base that is not one of its names."""
    head: dict[str, Any] = {"tags": ["espalier", pair.learner.name, pair.task.name]}
    if origin:
        library = "transformers" if (folder / "config.json").is_file() else "peft"
        head |= {"library_name": library, "pipeline_tag": "text-generation"}
        head |= {"base_model": origin.hub} if origin.hub else {}
    return head


def _about_base(base: str, folder: Path, origin: Origin) -> list[str]:
    """Say of which weights the base is, and where to get one that is not on the hub."""
    from trainables.models.portable import BASE_FOLDER

    name = BaseName.parse(base)
    before = Path(name.source).parent / SWEEP_FILE
    lines = [f"- The base's weights are those of a GGUF file: `{_gguf_file(name)}`."] if name.gguf else []
    lines += [f"- Unquantized, `{origin.hub}` answers a little differently."] if name.source in PACKAGED else []
    lines += [f"- The base is the merged winner of the sweep `{before.parent.name}`."] if before.is_file() else []
    if origin.hub or (folder / "config.json").is_file():
        return lines
    if origin.brought:
        return [*lines, f"- The base is not on the hub, and lies in `{BASE_FOLDER}/`."]
    return [*lines, f"- The base is not on the hub; put it into `{BASE_FOLDER}/` to use the code below."]


def _gguf_file(name: BaseName) -> str:
    """Return a GGUF file as others know it: in its repository, or by its name alone, and its sha256."""
    where = "" if Path(name.source).is_absolute() else f"{name.source}:gguf="
    return f"{where}{name.gguf}:sha256={name.sha256}" if name.sha256 else f"{where}{name.gguf}"


def _before(run: Run, job: Job, pair: Pair) -> tuple[str, float | None]:
    """Return what the trial was before its training, and its score on the split on which the trial was scored."""
    if job.split == "test":
        final = next((one for one in run.finals if one.trial_id == job.record.trial_id), None)
        before = run.confirmation.before(final) if final else None
        name = before.name if before and before.name.startswith(UNTRAINED) else UNTOUCHED
        return name.capitalize(), before.score if before else None
    return UNTOUCHED.capitalize(), run.end.get("untouched", {}).get(pair.name, {}).get("score")


def _use(run: Run, job: Job, pair: Pair, folder: Path, merged: bool, hub: str = "") -> list[str]:
    """Return a block of Python that is run in the parent of `folder`.

    Names, tokens and texts stand there as literals (`!r`), because readers paste the block: none may end its quotes.
    """
    from trainables.models.chat_template import assistant_turn
    from trainables.models.loading import tokenizer
    from trainables.models.peft_adapters import CONFIG_FILE, LORA_FOLDER, PROMPT_FOLDER

    try:
        reader = tokenizer(pair.base)
        prompting = _prompting(run, job, pair, reader)
        end = f"tokenizer.convert_tokens_to_ids({reader.convert_ids_to_tokens(assistant_turn(reader).end)!r})"
    except UnknownBase:  # the base is not on this machine
        prompting, end = ["", f"# {NO_TOKENIZER}"], "tokenizer.eos_token_id"
    name, (before, source, config) = folder.name, _base_arguments(pair.base, folder.name, hub)
    whole = merged or (folder / "config.json").is_file()
    dtype = f", dtype={_dtype(run, pair)!r}"
    weights = f"{name!r}{dtype if merged else ''}" if whole else f"{source}{dtype}{config}"
    words = repr(name) if (folder / "tokenizer_config.json").is_file() else source
    load = [*(before if source in weights + words else []),
            f"tokenizer = AutoTokenizer.from_pretrained({words})",
            f"model = AutoModelForCausalLM.from_pretrained({weights})",
            "# As in the sweep: no repetition penalty, and one end token.",
            f"end = {end}",
            "model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=end)"]  # fmt: skip
    if (folder / LORA_FOLDER).is_dir():
        load.append(f"model = PeftModel.from_pretrained(model, {f'{name}/{LORA_FOLDER}'!r}).merge_and_unload()")
    if (folder / PROMPT_FOLDER).is_dir():
        load.append(f"model = PeftModel.from_pretrained(model, {f'{name}/{PROMPT_FOLDER}'!r})")
    elif not whole:
        own = "" if (folder / CONFIG_FILE).is_file() else "/<task id>"  # an adapter for each ARC task
        load.append(f"model = PeftModel.from_pretrained(model, {name + own!r})")
    imports = ["from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig", ""]
    if any("find_spec(" in line for line in load):
        imports.insert(0, "from importlib.util import find_spec")
    if any("AutoConfig." in line for line in load):
        imports[-2] = imports[-2].replace("import ", "import AutoConfig, ")
    if any("PeftModel" in line for line in load):
        imports.insert(0, "from peft import PeftModel")
    if any("torch." in line for line in prompting):
        imports.insert(0, "import torch")
    return ["```python", *imports, *load, *prompting, "```"]


def _base_arguments(base: str, export: str, hub: str) -> tuple[list[str], str, str]:
    """Return lines that come first, the arguments by which `from_pretrained` finds the base, and those of the model.

    `export`: the export's folder; `hub`: the base's name on the hub, empty for one that is brought along.
    """
    from trainables.models.portable import BASE_FOLDER

    name, local = BaseName.parse(base), repr(f"{export}/{BASE_FOLDER}")
    if not name.gguf or (hub and name.source not in (hub, *PACKAGED)):
        return [], repr(hub) if hub else local, ""
    before, folder = [], repr(name.source) if hub else local
    if name.source in PACKAGED:
        package, folder = PACKAGED[name.source][0], "folder"
        before = [f'folder = find_spec("{package}").submodule_search_locations[0]']
    source = f"{folder}, gguf_file={name.gguf!r}"
    rope = _scaled_positions(base)
    if not rope:
        return before, source, ""
    before += [f"config = AutoConfig.from_pretrained({source})",
               f"config.rope_parameters = {rope}  # transformers does not read it from the file"]  # fmt: skip
    return before, source, ", config=config"


def _scaled_positions(base: str) -> dict[str, Any]:
    """Return the scaling of positions of Llama 3 that a GGUF base has; empty if it has none, or is not here."""
    from transformers import AutoConfig

    try:
        rope = AutoConfig.from_pretrained(model_folder(base)).get_text_config().rope_parameters
    except UnknownBase:
        return {}
    return dict(rope) if rope and rope.get("rope_type") == "llama3" else {}


def _dtype(run: Run, pair: Pair) -> str:
    """Return the dtype that the sweep used. The base may have another on disk, and near-ties could then differ."""
    given = BaseName.parse(pair.base).options & set(DTYPES)
    on_gpu = run.facts["sweep"]["resources_per_trial"].get("gpu")
    return next(iter(given), "bfloat16" if on_gpu else "float32")


def _prompting(run: Run, job: Job, pair: Pair, tokenizer: Any) -> list[str]:
    """Return lines that ask a question of the test split in the sweep's prompt format, and the recorded answer.

    The rendered chat template is written out, because the template itself might insert today's date. Empty if every
    question has several messages, or if each adapter answers one task only. Says so if the sweep's data is not here.
    """
    try:  # no other file of this machine goes into a card
        check_data(run, pair.task)
    except BadInput:
        return ["", f"# {NO_EXAMPLE}"]
    examples = pair.task.test()
    single = [place for place, one in enumerate(examples) if _is_single_prompt(one)]
    if pair.learner.per_example or not single:
        return []
    place = min(single, key=lambda one: len(examples[one].prompt))
    right = f"right: {examples[place].answer!r}"
    final = next((one for one in run.finals if one.trial_id == job.record.trial_id and one.completions), None)
    remark = f"it answered {final.completions[0][place].strip()!r}; {right}" if final else right
    most = pair.learner.max_completion(pair.task)
    beginning, before, after = asking_form(tokenizer)
    prefix = f"{beginning} + " if beginning else ""
    return ["", f"question = {examples[place].prompt!r}",
            f"text = {before!r} + question + {after!r}",
            f"prompt = torch.tensor([{prefix}tokenizer(text, add_special_tokens=False).input_ids])",
            f'how = {{"attention_mask": torch.ones_like(prompt), "max_new_tokens": {most}, "do_sample": False}}',
            "answer = model.generate(input_ids=prompt, **how)[0, prompt.shape[1] :]",
            f"print(tokenizer.decode(answer, skip_special_tokens=True).strip())  # {remark}"]  # fmt: skip


def _is_single_prompt(example: Example) -> bool:
    """Return whether the prompt is the whole question: no conversation of several turns, no system message."""
    return len(getattr(example.data, "messages", ())) <= 2
