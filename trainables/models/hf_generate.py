"""Generate with transformers by a model's own probabilities alone.

Many bases come with a generation config (a repetition penalty, banned tokens, a second end token) that changes what a
caller leaves open. Completions would then differ from a host's and from the training, so it is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor

from trainables.core import Completion, Draw
from trainables.models.token_draws import TokenDraws


class _Chosen(LogitsProcessor):
    """Leaves of each step's scores the token that is drawn, or the likeliest one; records what `TokenDraws.choose`
    says of it."""

    def __init__(self, draws: TokenDraws, rows: int) -> None:
        self._draws, self._rows = draws, rows
        self.logprobs: list[Tensor] = []
        self.entropies: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        next_R, logprob_R, entropy_R = self._draws.choose(scores, range(self._rows), len(self.logprobs))
        self.logprobs.append(logprob_R)
        self.entropies.append(entropy_R)
        return torch.full_like(scores, -torch.inf).scatter(-1, next_R[:, None], 0.0)


@torch.no_grad()
def generate_completions(
    model: Any,
    prompts: Sequence[Sequence[int]],
    eos: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    draws: Sequence[Draw] = (),
    **others: Any,
) -> list[Completion]:
    """Complete prompts (token ids), padded on the left and decoded together: greedily, by their `draws`, or, at a
    temperature, by torch's generator.

    Log-probabilities are not given at a temperature. `others` are passed to `generate`.
    """
    device, width = model.device, max(map(len, prompts))
    ids = torch.tensor([[eos] * (width - len(p)) + [*p] for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    chosen = _Chosen(TokenDraws(draws or [None] * len(prompts), max_new_tokens), len(prompts))
    how = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"logits_processor": [chosen]}
    with _default_generation_config(model):
        made = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=temperature > 0,
            eos_token_id=eos,
            pad_token_id=eos,
            **how,
            **others,
        )[:, width:].tolist()
    none: list[list[float]] = [[] for _ in made]
    logprobs = torch.stack(chosen.logprobs, 1).tolist() if chosen.logprobs else none
    entropies = torch.stack(chosen.entropies, 1).tolist() if draws else none
    ends = [row.index(eos) if eos in row else len(row) for row in made]
    return [
        Completion(row[:end], end < len(row), own[: end + 1], spread[: end + 1])
        for row, own, spread, end in zip(made, logprobs, entropies, ends, strict=True)
    ]


@contextmanager
def _default_generation_config(model: Any) -> Iterator[None]:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT's wrapper forwards to it
    kept = inner.generation_config
    inner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        inner.generation_config = kept
