"""Several documents in one row: each sees itself alone, so that a row costs less padding and means the same.

A packed row's documents are told apart by a prepared attention mask and by positions that start again, which
transformers takes as they are. Not every model keeps to a mask: a convolution or a recurrence carries what it has
seen from one document to the next. So a base is tried before its first packed row, not looked up in a list.

Shapes: R rows, T tokens.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from trainables.core import Row
from trainables.models.loading import Base
from trainables.training.packing_plan import window_of

_TRIED: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # model -> whether it keeps documents apart


def document_outline(padding: int, tokens: int, starts: Sequence[int]) -> tuple[list[int], list[int]]:
    """Of so many padded columns and then a row: the number of each token's document, from 1 on, and its place in it.

    Padding is document 0.
    """
    documents, places = [0] * padding, [0] * padding
    for number, (first, last) in enumerate(itertools.pairwise([0, *starts, tokens]), start=1):
        documents += [number] * (last - first)
        places += range(last - first)
    return documents, places


def document_attention(documents_R_T: Tensor, model: Any) -> Tensor:
    """(R, 1, T, T): each token sees itself and what stands before it in its own document. Never an empty line.

    Booleans for `sdpa`, and what is added to scores for `eager`.
    """
    same = documents_R_T[:, None, :, None] == documents_R_T[:, None, None, :]
    seen = same & torch.ones_like(same[:1, :1]).tril()
    if _attends_by(model) == "sdpa":
        return seen
    hidden = torch.full((), torch.finfo(model.dtype).min, dtype=model.dtype, device=seen.device)
    return torch.where(seen, torch.zeros_like(hidden), hidden)


def padded_right(rows: Sequence[Row], eos: int, model: Any, device: torch.device) -> dict[str, Tensor]:
    """What a model takes of rows of one trial: by document, and with positions, where any row holds several."""
    width = max(len(row.tokens) for row in rows)
    padding = [[0] * (width - len(row.tokens)) for row in rows]
    outlines = [document_outline(0, len(row.tokens), row.starts) for row in rows]
    ids = [[*row.tokens, *(eos for _ in pad)] for row, pad in zip(rows, padding, strict=True)]
    documents, places = ([own[i] + pad for own, pad in zip(outlines, padding, strict=True)] for i in range(2))
    packed = torch.tensor([ids, documents, places], device=device)
    if not any(row.starts for row in rows):
        return {"input_ids": packed[0], "attention_mask": packed[1]}
    return {"input_ids": packed[0], "attention_mask": document_attention(packed[1], model), "position_ids": packed[2]}


def check_packed_rows(rows: Sequence[Row], virtual: int, base: Base) -> None:
    """Whether rows of several documents, if there are any, are sound and can be run on a base, after so many virtual
    tokens.

    Raises ValueError in one line.
    """
    packed = [row for row in rows if row.starts]
    if not packed:
        return
    if virtual:
        raise ValueError(
            f"only the first document of a row would see the {virtual} virtual tokens; pack no rows for a soft prompt"
        )
    window = window_of(base.model.config)
    for row in packed:
        bounds = [0, *row.starts, len(row.tokens)]
        if any(first >= last for first, last in itertools.pairwise(bounds)):
            raise ValueError(
                f"starts {row.starts} of a row of {len(row.tokens)} tokens: give rising places between its first token"
                " and its last"
            )
        if labelled := [start for start in row.starts if row.labels[start]]:
            raise ValueError(
                f"token {labelled[0]} begins a document and is a label, but nothing before it is seen; unset the label"
            )
        longest = max(last - first for first, last in itertools.pairwise(bounds))
        if longest > window:
            raise ValueError(
                f"a document of {longest} tokens is longer than the window of {window} tokens that {base.name!r}"
                " attends to; give it a row of its own"
            )
    if base.model not in _TRIED:
        _TRIED[base.model] = _keeps_apart(base.model)
    if not _TRIED[base.model]:
        raise ValueError(
            f"base {base.name!r} carries one document of a row into the next (a convolution or a recurrence does, and"
            " so does an attention without masks, or with places of its own); pack no rows for it: packing=false"
        )


def _attends_by(model: Any) -> str:
    # Private, and in transformers' own models everywhere: tests/e2e/test_private_names.py.
    return str(model.config.get_text_config()._attn_implementation)


@torch.no_grad()
def _keeps_apart(model: Any) -> bool:
    """Whether a document gets the same logits behind another one as alone, to half of the digits that there are.

    Never more than half of float32's, in which eager attention takes its softmax whatever the model's own type.
    """
    takes_places = "position_ids" in inspect.signature(model.forward).parameters  # ALiBi counts by itself
    if not takes_places or _attends_by(model) not in ("sdpa", "eager"):
        return False
    was_training = model.training
    model.eval()
    device, (first, second) = model.device, ([3, 2, 1, 3, 2], [0, 2, 1, 3])
    documents, places = document_outline(0, len(first + second), [len(first)])
    behind = model(
        input_ids=torch.tensor([first + second], device=device),
        attention_mask=document_attention(torch.tensor([documents], device=device), model),
        position_ids=torch.tensor([places], device=device),
        use_cache=False,
    ).logits[0, len(first) :]
    alone = model(input_ids=torch.tensor([second], device=device), use_cache=False).logits[0]
    model.train(was_training)
    digits = max(torch.finfo(alone.dtype).eps, torch.finfo(torch.float32).eps)
    allowed = alone.abs().max() * digits**0.5
    return bool((behind - alone).abs().max() <= allowed)
