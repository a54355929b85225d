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

from trainables.core import Completion


class _RecordLogprobs(LogitsProcessor):
    """Records the log-probability (nats) of each step's likeliest token; changes no score."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps.append(scores.amax(-1) - scores.logsumexp(-1))
        return scores


@torch.no_grad()
def generate_completions(
    model: Any, prompts: Sequence[Sequence[int]], eos: int, max_new_tokens: int, temperature: float = 0.0, **others: Any
) -> list[Completion]:
    """Complete prompts (token ids), padded on the left and decoded together.

    Log-probabilities are given at temperature 0 only. `others` are passed to `generate`.
    """
    device, width = model.device, max(map(len, prompts))
    ids = torch.tensor([[eos] * (width - len(p)) + [*p] for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    likeliest = _RecordLogprobs()
    how = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"logits_processor": [likeliest]}
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
    logprobs = torch.stack(likeliest.steps, 1).tolist() if likeliest.steps else [[] for _ in made]
    ends = [row.index(eos) if eos in row else len(row) for row in made]
    return [
        Completion(row[:end], end < len(row), own[: end + 1])
        for row, own, end in zip(made, logprobs, ends, strict=True)
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
