"""Answer by a trained model and by its untouched base, which is loaded once: its adapter is turned off for it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from trainables.bad_input import BadInput
from trainables.core import Completion
from trainables.models.base_fault import first_line
from trainables.models.hf_generate import generate_completions
from trainables.models.loading import load
from trainables.models.peft_adapters import adapter_folders, check_can_be_removed, load_adapter
from trainables.models.tokenization import decode, encode_prompt

WHOLE_MODEL = "config.json"  # in the folder of a model that is no adapter


class Answer(NamedTuple):
    text: str
    ended: bool  # False: it was cut off


def whole_model(folder: Path, device: torch.device) -> Any:
    """Load a model as `full` saves it: in float32, without a tokenizer. Raise ValueError if it is damaged."""
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, device_map={"": device}
        )
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise BadInput(f"the model in {folder} cannot be loaded ({first_line(error)[:160]})") from error


def trained_model(base: str, folder: Path) -> Any:
    """Return the model that a learner saved in `folder`, on its base: as PEFT loads its adapter (a hybrid's two), or
    whole. Raise UnknownBase, and ValueError for a folder with neither or with another base's adapter."""
    loaded = load(base)
    load.cache_clear()  # PEFT changes the model that it adapts
    if (folder / WHOLE_MODEL).is_file():
        return whole_model(folder, loaded.device).eval()
    return [load_adapter(loaded.model, part) for part in adapter_folders(folder)][-1].eval()


class SideBySide:
    """Two models with one tokenizer. Answers are greedy and depend on nothing but the question."""

    def __init__(self, base: str, folder: Path) -> None:
        """Load a base, and the adapter (a hybrid's two) or the whole model that a learner saved in `folder`.

        Raise UnknownBase, and ValueError for a folder with neither, with the adapter of another base, or with one that
        cannot be turned off.
        """
        loaded = load(base)
        load.cache_clear()  # PEFT changes the model that it adapts
        self._tokenizer, self._eos = loaded.tokenizer, loaded.eos
        self._untouched: Any = loaded.model
        self._adapters: list[Any] = []
        if (folder / WHOLE_MODEL).is_file():
            self._trained = whole_model(folder, loaded.device)
            return
        check_can_be_removed(folder)  # PEFT turns off all of an adapter but biases
        for part in adapter_folders(folder):
            self._adapters.append(load_adapter(self._untouched, part))
        self._trained = self._adapters[-1].eval()

    def ask(self, question: str, max_new_tokens: int) -> Iterator[Answer]:
        """Yield the answer of the trained model, and then that of the untouched base, which is often longer."""
        prompt = encode_prompt(self._tokenizer, question)
        yield self._answer(self._trained, prompt, max_new_tokens)
        with ExitStack() as without:
            for adapter in self._adapters:
                without.enter_context(adapter.disable_adapter())
            yield self._answer(self._untouched, prompt, max_new_tokens)

    def _answer(self, model: Any, prompt: list[int], max_new_tokens: int) -> Answer:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Position ids are not supported")  # said of every soft prompt
            made: Completion = generate_completions(model, [prompt], self._eos, max_new_tokens)[0]
        return Answer(decode(self._tokenizer, made.tokens).strip(), made.ended)
