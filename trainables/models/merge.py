"""Merge an adapter into its base, as a model that plain transformers loads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from trainables.bad_input import reading
from trainables.models.loading import DTYPES, BaseName, load, model_folder, tokenizer
from trainables.models.peft_adapters import CONFIG_FILE, PROMPT_FOLDER, adapter_folders, load_adapter
from trainables.models.portable import add_tokenizer


def merge(base: str, adapter: Path, target: Path, dtype: torch.dtype | None = None) -> None:
    """Write the base with the adapter in its weights, and the tokenizer, into `target`.

    `dtype`: of the weights; None for the one that the base has on disk. The sum is rounded to it once, at the end.

    A 4-bit base is merged at full precision (Dettmers et al. 2023, section 4: the adapter was trained against rounded
    weights, so scores may move). A hybrid's soft prompt has no place in weights and stays an adapter in `soft_prompt/`.
    Raises ValueError for an adapter that is only a soft prompt, or no adapter at all.
    """
    name = base_without(base, "nf4")
    if (adapter / "config.json").is_file():  # full fine-tuning saves the model itself
        shutil.copytree(adapter, target, dirs_exist_ok=True)
        if dtype is None:
            _change_dtype(target, dtype_on_disk(name), "remote-code" in BaseName.parse(name).options)
        add_tokenizer(target, tokenizer(name))
        return
    import peft

    folder, *prompt = adapter_folders(adapter)
    if peft.PeftConfig.from_pretrained(str(folder)).is_prompt_learning:
        raise ValueError("a soft prompt is input, not weights, and cannot be merged; leave --merge out")
    dtype = dtype or dtype_on_disk(name)
    whole = load(as_precise(name, dtype), torch.device("cpu"))  # the GPU is left free for trials
    load.cache_clear()  # the base is changed below and must not be reused
    with reading(folder / CONFIG_FILE):
        untie(whole.model, peft.PeftConfig.from_pretrained(str(folder)))
    model = load_adapter(whole.model, folder)
    model.merge_and_unload().to(dtype).save_pretrained(target)
    if prompt:
        shutil.copytree(prompt[0], target / PROMPT_FOLDER)
    add_tokenizer(target, whole.tokenizer)


def dtype_on_disk(base: str) -> torch.dtype:
    """Return the dtype of a base's own weights, as its configuration states it. Raise UnknownBase."""
    from transformers import AutoConfig

    remote_code = "remote-code" in BaseName.parse(base).options
    config = AutoConfig.from_pretrained(model_folder(base), trust_remote_code=remote_code)
    return config.dtype or config.get_text_config().dtype or torch.float32


def trained_dtype(base: str) -> torch.dtype:
    """Return the dtype in which this machine trains on a base."""
    return BaseName.parse(base).dtype(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def as_precise(name: str, dtype: torch.dtype) -> str:
    """Return a base's name with the dtype option that keeps all bits of `dtype` and of the dtype it is trained in."""
    both = torch.promote_types(dtype, trained_dtype(name))
    for option in DTYPES:
        name = base_without(name, option)
    return f"{name}:{str(both).removeprefix('torch.')}"


def _change_dtype(folder: Path, dtype: torch.dtype, remote_code: bool) -> None:
    from transformers import AutoModelForCausalLM

    remote = {"trust_remote_code": remote_code}
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", use_safetensors=True, **remote)
    if model.dtype != dtype:
        model.to(dtype).save_pretrained(folder)


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
