"""Samples from a base, with an adapter or without: plain transformers `generate`, rows padded on the left.

Nothing but the temperature shapes the distribution (no top-k, top-p or repetition penalty, whatever the base's own
generation config says), so that samples are the model's own: on-policy, as preference learning assumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from trainables.adapters import parts_of
from trainables.bases import Base, load


@dataclass(frozen=True)
class Sampled:
    """Token ids without the end token; `ended`: whether it was produced."""

    tokens: list[int]
    ended: bool


def with_adapter(name: str, folder: Path | None) -> Base:
    """A base with what `save` or `espalier export` left in `folder`: PEFT's format, or a hybrid's two halves.

    The base is its own, and no longer in `load`'s cache. Raises UnknownBase, and ValueError for a folder that holds no
    adapter or one of another base.
    """
    base = load(name)
    if folder is None:
        return base
    import peft

    parts = parts_of(folder)
    load.cache_clear()  # PEFT changes the model that it adapts
    model: Any = base.model
    try:
        for part in parts:
            model = peft.PeftModel.from_pretrained(model, str(part))
            if part is not parts[-1]:
                model = model.merge_and_unload()
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:160]
        raise ValueError(f"the adapter in {folder} does not fit the base {name!r} ({first})") from error
    return Base(name, model.requires_grad_(False).eval(), base.tokenizer)


@torch.no_grad()
def sample(
    base: Base, prompts: Sequence[Sequence[int]], max_new_tokens: int, temperature: float, seed: int
) -> list[Sampled]:
    """One completion of each prompt (token ids), decoded together; greedy at temperature 0.

    Equal arguments give equal samples, and torch's generators are left as they were.
    """
    pad, width = base.tokenizer.pad_token_id or 0, max(map(len, prompts))
    rows = [[pad] * (width - len(row)) + list(row) for row in prompts]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in prompts]
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=temperature > 0, temperature=temperature or 1.0, top_k=0, top_p=1.0,
        repetition_penalty=1.0, pad_token_id=pad, eos_token_id=base.eos,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = base.model.generate(
            input_ids=torch.tensor(rows, device=base.device),
            attention_mask=torch.tensor(mask, device=base.device),
            generation_config=config,
        )
    return [_until_end(row[width:].tolist(), base.eos) for row in made]


def _until_end(tokens: list[int], end: int) -> Sampled:
    ended = end in tokens
    return Sampled(tokens[: tokens.index(end)] if ended else tokens, ended)
