"""Merge an adapter into its base, as a model that plain transformers loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from trainables.models.chat_template import assistant_turn
from trainables.models.loading import BaseName, load, tokenizer
from trainables.models.peft_adapters import PROMPT_FOLDER, adapter_folders, load_adapter


def merge(base: str, adapter: Path, target: Path) -> None:
    """Write the base with the adapter in its weights, and the tokenizer, into `target`.

    A 4-bit base is merged at full precision (Dettmers et al. 2023, section 4: the adapter was trained against rounded
    weights, so scores may move). A hybrid's soft prompt has no place in weights and stays an adapter in `soft_prompt/`.
    Raises ValueError for an adapter that is only a soft prompt, or no adapter at all.
    """
    name = base_without(base, "nf4")
    if (adapter / "config.json").is_file():  # full fine-tuning saves the model itself
        shutil.copytree(adapter, target, dirs_exist_ok=True)
        _finish(target, tokenizer(name))
        return
    import peft

    folder, *prompt = adapter_folders(adapter)
    if peft.PeftConfig.from_pretrained(str(folder)).is_prompt_learning:
        raise ValueError("a soft prompt is input, not weights, and cannot be merged; leave --merge out")
    whole = load(name, torch.device("cpu"))  # the GPU is left free for trials
    load.cache_clear()  # the base is changed below and must not be reused
    untie(whole.model, peft.PeftConfig.from_pretrained(str(folder)))
    model = load_adapter(whole.model, folder)
    model.merge_and_unload().save_pretrained(target)
    if prompt:
        shutil.copytree(prompt[0], target / PROMPT_FOLDER)
    _finish(target, whole.tokenizer)


def _finish(target: Path, reader: Any) -> None:
    """Save the tokenizer beside a model, and add the end token of answers to its generation config."""
    reader.save_pretrained(target)
    path = target / "generation_config.json"
    config = json.loads(path.read_text()) if path.is_file() else {}
    own = config.get("eos_token_id")
    ends = own if isinstance(own, list) else [] if own is None else [own]
    if (end := assistant_turn(reader).end) not in ends:
        path.write_text(json.dumps(config | {"eos_token_id": [*ends, end]}, indent=2))


def untie(model: Any, adapter: Any) -> None:
    """Untie a model's output layer from its input embedding, in place, if the adapter changes the output layer.

    Merged into the shared weights, the adapter would change the input as well.
    """
    output, words = model.get_output_embeddings(), model.get_input_embeddings()
    name = next((name for name, module in model.named_modules() if module is output), "")
    if output is not None and output.weight is words.weight and name.rpartition(".")[2] in adapter.target_modules:
        output.weight = torch.nn.Parameter(output.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False


def base_without(name: str, option: str) -> str:
    """Return the base's name without one of its options. Raise UnknownBase."""
    BaseName.parse(name)
    return ":".join(part for index, part in enumerate(name.split(":")) if index == 0 or part != option)
