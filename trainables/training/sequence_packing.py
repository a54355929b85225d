"""Several documents in one row, which saves padding: no document attends to another. Or several branches of one trunk:
each attends to the trunk and to itself.

A packed row has an attention mask by document, and positions that restart with each document, or go on from the trunk
with each branch; transformers takes both.
Not every model keeps to the mask: a convolution or a recurrence carries its state from one document to the next. So a
base is tested before its first packed row.

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

TRUNK = -1  # the document of a trunk's tokens, which its branches see

_TRIED: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # model -> whether it keeps documents apart


def document_outline(
    padding: int, tokens: int, starts: Sequence[int], branches: Sequence[int] = ()
) -> tuple[list[int], list[int]]:
    """Return the document of each token, counted from 1, and the token's position in it, for a row behind padding.

    Padding is document 0. Branches are documents, too; the trunk before them is document `TRUNK`.
    """
    trunk = branches[0] if len(branches) > 1 else 0  # a single branch only continues its trunk
    documents, places = [0] * padding + [TRUNK] * trunk, [0] * padding + [*range(trunk)]
    bounds = [*branches, tokens] if trunk else [0, *starts, tokens]
    for number, (first, last) in enumerate(itertools.pairwise(bounds), start=1):
        documents += [number] * (last - first)
        places += range(trunk, trunk + last - first)
    return documents, places


def document_attention(documents_R_T: Tensor, model: Any) -> Tensor:
    """Return the mask (R, 1, T, T): each token attends to itself and to earlier tokens of its document, and those of a
    branch to the trunk.

    It is boolean for `sdpa`, and is added to scores for `eager`.
    """
    own, others = documents_R_T[:, None, :, None], documents_R_T[:, None, None, :]
    same = (own == others) | ((own > 0) & (others == TRUNK))
    seen = same & torch.ones_like(same[:1, :1]).tril()
    if _attends_by(model) == "sdpa":
        return seen
    hidden = torch.full((), torch.finfo(model.dtype).min, dtype=model.dtype, device=seen.device)
    return torch.where(seen, torch.zeros_like(hidden), hidden)


def padded_right(rows: Sequence[Row], eos: int, model: Any, device: torch.device) -> dict[str, Tensor]:
    """Return the model's inputs for rows of one trial; with a mask by document if any row holds several."""
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
    """Check rows of several documents: their `starts`, and whether the base can run them. Raise ValueError."""
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
    if not keeps_apart(base):
        raise ValueError(
            f"base {base.name!r} carries one document of a row into the next (a convolution or a recurrence does, and"
            " so does an attention without masks, or with places of its own); pack no rows for it: packing=false"
        )


def keeps_apart(base: Base) -> bool:
    """Return whether documents and branches of a row do not see each other on this base."""
    if base.model not in _TRIED:
        _TRIED[base.model] = _keeps_apart(base.model)
    return _TRIED[base.model]


def _attends_by(model: Any) -> str:
    # Private, and in transformers' own models everywhere: tests/e2e/test_private_names.py.
    return str(model.config.get_text_config()._attn_implementation)


@torch.no_grad()
def _keeps_apart(model: Any) -> bool:
    """Return whether a document gets the same logits behind another one as alone, to half of the dtype's digits.

    At most half of float32's digits, as eager attention computes its softmax in float32.
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
