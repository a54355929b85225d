"""Run a base on rows of different lengths, with or without a soft prompt: log-probabilities and greedy decoding.

Rows are padded on the left, so that labels and next tokens stand at the end of every row and logits are computed only
there. Shapes: B rows, P virtual tokens, T tokens of the longest row, L labels of the longest row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from trainables.bases import Base
from trainables.core import Row


def label_logprobs(base: Base, rows: Sequence[Row], prompt: torch.Tensor | None) -> list[torch.Tensor]:
    """Per row, the log-probability (nats, at least float32) of each of its labels given all before it."""
    tokens_B_T, mask_B_T = _pad(base, [list(row.tokens) for row in rows])
    labels_B_T, _ = _pad(base, [[int(label) for label in row.labels] for row in rows], fill=0)
    width = tokens_B_T.shape[1]
    first = int(labels_B_T.any(0).int().argmax())  # the leftmost column that holds a label
    keep = width - first + 1  # the token before it predicts it
    output = base.model(**_inputs(base, tokens_B_T, mask_B_T, prompt), logits_to_keep=keep, use_cache=False)
    logprobs_B_L_V = _wide(output.logits[:, :-1]).log_softmax(-1)
    logprobs_B_L = logprobs_B_L_V.gather(-1, tokens_B_T[:, first:, None]).squeeze(-1)
    return [row[chosen] for row, chosen in zip(logprobs_B_L, labels_B_T[:, first:].bool(), strict=True)]


@torch.no_grad()
def generate(
    base: Base,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    prompt: torch.Tensor | None,
    batch_size: int = 128,
) -> tuple[list[list[int]], list[bool]]:
    """Greedy completions without the end token, and whether each ended within `max_new_tokens`.

    Prompts of similar length share a batch; the answers come back in the order of `prompts`.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    completions: list[list[int]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        for index, (tokens, end) in zip(
            chunk, _generate_batch(base, [list(prompts[i]) for i in chunk], max_new_tokens, prompt), strict=True
        ):
            completions[index], ended[index] = tokens, end
    return completions, ended


def _generate_batch(
    base: Base, prompts: list[list[int]], max_new_tokens: int, prompt: torch.Tensor | None
) -> list[tuple[list[int], bool]]:
    tokens_B_T, mask_B_T = _pad(base, prompts)
    inputs = _inputs(base, tokens_B_T, mask_B_T, prompt)
    results: list[tuple[list[int], bool]] = [([], False) for _ in prompts]
    alive = torch.arange(len(prompts), device=base.device)  # which prompt each row of the batch belongs to
    cache = None
    for _ in range(max_new_tokens):
        output = base.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        next_B = output.logits[:, -1].argmax(-1)
        for row, token in zip(alive.tolist(), next_B.tolist(), strict=True):
            tokens, ended = results[row]
            if not ended:
                results[row] = (tokens, True) if token == base.eos else ([*tokens, token], False)
        open_B = torch.tensor([not results[row][1] for row in alive.tolist()], device=base.device)
        if not open_B.any():
            break
        mask, positions = inputs["attention_mask"], inputs["position_ids"][:, -1:] + 1
        if open_B.sum() * 2 <= len(alive) and _can_compact(cache):
            keep = open_B.nonzero().squeeze(-1)
            cache.batch_select_indices(keep)
            alive, next_B, mask, positions = alive[keep], next_B[keep], mask[keep], positions[keep]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        inputs = {"input_ids": next_B[:, None], "attention_mask": mask, "position_ids": positions}
    return results


def _wide(logits: torch.Tensor) -> torch.Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _can_compact(cache: Any) -> bool:
    """Some hybrid architectures keep a convolution state that cannot drop rows."""
    return all(hasattr(layer, "batch_select_indices") for layer in getattr(cache, "layers", [None]))


def _pad(base: Base, rows: list[list[int]], fill: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows padded on the left -> values (B, T) and mask (B, T), both int64 on the base's device."""
    width = max(map(len, rows))
    fill = base.eos if fill is None else fill
    values = [[fill] * (width - len(row)) + row for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(values, device=base.device), torch.tensor(mask, device=base.device)


def _inputs(
    base: Base, tokens_B_T: torch.Tensor, mask_B_T: torch.Tensor, prompt: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """What the model takes: token ids, or embeddings with the soft prompt between the padding and the row's tokens."""
    if prompt is None:
        return {
            "input_ids": tokens_B_T,
            "attention_mask": mask_B_T,
            "position_ids": (mask_B_T.cumsum(1) - 1).clamp(min=0),
        }
    rows, length = len(tokens_B_T), len(prompt)
    embeddings = base.model.get_input_embeddings()(tokens_B_T)
    prompt_B_P_H = prompt.to(embeddings.dtype).expand(rows, -1, -1)
    mask_B_PT = torch.cat([mask_B_T, mask_B_T.new_ones(rows, length)], 1)
    joined = torch.cat([embeddings, prompt_B_P_H], 1)
    # Put the virtual tokens right after each row's padding: padding, prompt, tokens.
    width = tokens_B_T.shape[1]
    padding = width - mask_B_T.sum(1, keepdim=True)
    column = torch.arange(width + length, device=joined.device).expand(rows, -1)
    source = torch.where(
        column < padding, column, torch.where(column < padding + length, width + column - padding, column - length)
    )
    joined = joined.gather(1, source[..., None].expand_as(joined))
    mask_B_PT = mask_B_PT.gather(1, source)
    return {
        "inputs_embeds": joined,
        "attention_mask": mask_B_PT,
        "position_ids": (mask_B_PT.cumsum(1) - 1).clamp(min=0),
    }
