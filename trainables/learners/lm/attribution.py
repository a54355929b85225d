"""How much of an answer lies on the draft before it: integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365).

What is explained is the log-odds of the answer given against the other one, where the two first differ. A token's
attribution is its embedding's, summed over dimensions; absolute values are what is shared out, as attributions of both
signs would cancel.

The baseline is a text of end tokens of the same length: every base has one that was trained, and it tells of no
question. Not zeros: bases normalise what they read, so on a line from zero all changes within the very first step, and
no number of steps makes the sum right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from trainables.core import Example
from trainables.learners.lm.cot_drafts import ANSWERS, concluding
from trainables.models.tokenization import row_of

AT_ONCE = 8  # steps in one forward pass


@dataclass(frozen=True)
class Parts:
    """Token ids of what stands before the answer, and the tokens by which the two answers first differ."""

    prompt: tuple[int, ...]
    draft: tuple[int, ...]
    conclusion: tuple[int, ...]  # "So the answer is"
    given: int
    other: int

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.prompt + self.draft + self.conclusion


@dataclass(frozen=True)
class Attribution:
    """Of one answer. Shares lie in [0, 1], and the first three sum to 1; the rest is in nats."""

    prompt_share: float
    draft_share: float
    conclusion_share: float
    token_share: float  # of the tokens, how many are the draft's: its share if every token had the same attribution
    mass: float  # sum of absolute attributions
    log_odds: float  # of the answer given
    difference: float  # that, less the baseline's
    error: float  # sum of attributions less `difference`: 0 with steps enough (completeness)


def parts(task: Any, tokenizer: Any, example: Example, draft: str, answer: str) -> Parts:
    """A question, its draft and the answer given behind it (Yes or No), as `cot_drafts.ablated` reads them.

    A token that holds the draft's last letters and more belongs to the conclusion.
    """
    other = next(one for one in ANSWERS if one != answer)
    given, against = concluding(tokenizer, example, [task.concluded(draft, one) for one in (answer, other)])
    alone = row_of(tokenizer, example.prompt, draft)
    start, end = alone.labels.index(True), given.labels.index(True)
    before, said = given.tokens[:start], given.tokens[start:end]
    length = _shared(said, alone.tokens[start:-1])
    return Parts(before, said[:length], said[length:], given.tokens[end], against.tokens[end])


def attribute(model: Any, asked: Parts, baseline: int, steps: int = 32) -> Attribution:
    """Integrated gradients of a causal language model in transformers' form, with a LoRA adapter or without.

    `baseline` is the id of the token that the line starts from; `steps` are of a Gauss-Legendre quadrature. Raises
    ValueError where the log-odds depend on no token, as there is then nothing to share out.
    """
    words = model.get_input_embeddings()
    tokens = torch.tensor([asked.tokens], device=words.weight.device)
    with torch.no_grad():
        inputs, start = words(tokens), words(torch.full_like(tokens, baseline))

    def log_odds(embeddings: Tensor) -> Tensor:
        """(N, tokens, hidden_size) -> (N,)"""
        logits = model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=1).logits[:, -1]
        return logits[:, asked.given].double() - logits[:, asked.other].double()

    gradients = IntegratedGradients(log_odds)
    found = gradients.attribute(inputs, start, n_steps=steps, internal_batch_size=min(steps, AT_ONCE))
    with torch.no_grad():
        value, before = log_odds(torch.cat([inputs, start])).tolist()
    each = found[0].double().sum(-1).cpu()
    total = float(each.abs().sum())
    if total == 0:
        raise ValueError("the answer depends on no token of the prompt, the draft or the conclusion; nothing to share")
    lengths = [len(part) for part in (asked.prompt, asked.draft, asked.conclusion)]
    prompt, draft, conclusion = (float(part.abs().sum()) / total for part in each.split(lengths))
    error = float(each.sum()) - (value - before)
    return Attribution(
        prompt, draft, conclusion, len(asked.draft) / len(asked.tokens), total, value, value - before, error
    )


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
