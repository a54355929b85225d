"""Sample completions from a base, with an adapter or without, by its own probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trainables.core import Completion
from trainables.models.hf_generate import generate_completions
from trainables.models.loading import Base, load
from trainables.models.peft_adapters import adapter_folders, load_adapter


def with_adapter(name: str, folder: Path | None) -> Base:
    """Load a base with the adapter that `save` or `espalier export` wrote to `folder` (a hybrid's two are applied).

    The base is removed from `load`'s cache. Raise UnknownBase, and ValueError for a folder without an adapter or with
    one of another base.
    """
    base = load(name)
    if folder is None:
        return base
    parts = adapter_folders(folder)
    load.cache_clear()  # PEFT changes the model that it adapts
    model: Any = base.model
    for part in parts:
        model = load_adapter(model, part)
        if part is not parts[-1]:
            model = model.merge_and_unload()
    return Base(name, model.requires_grad_(False).eval(), base.tokenizer)


def sample(
    base: Base, prompts: Sequence[Sequence[int]], max_new_tokens: int, temperature: float, seed: int
) -> list[Completion]:
    """Return one completion of each prompt (token ids), decoded together; greedy at temperature 0.

    Equal arguments give equal samples, and torch's generators are left as they were.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return generate_completions(base.model, prompts, base.eos, max_new_tokens, temperature)
