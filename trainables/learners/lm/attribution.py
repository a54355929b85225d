"""How far an answer depends on the draft before it: integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365).

The explained quantity is the log-odds of the given answer against the other one, at the token where the two first
differ. A token's attribution is that of its embedding, summed over dimensions. Shares are of absolute values, because
attributions of both signs would cancel.

The baseline is a text of end tokens of the same length: every base has a trained embedding for it, and it carries no
question. Zeros do not work: a base normalises its inputs, so on a line from zero everything changes in the first step,
and no number of steps makes the sum correct.
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
from trainables.learners.lm.cot import ANSWERS, answer_rows
from trainables.models.tokenization import row_of

STEPS_PER_PASS = 8  # integration steps in one forward pass


@dataclass(frozen=True)
class Parts:
    """The token ids before the answer, and the two answers' first different tokens."""

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
    """The attribution of one answer. Shares lie in [0, 1], and the first three sum to 1; the other values are in
    nats."""

    prompt_share: float
    draft_share: float
    conclusion_share: float
    token_share: float  # the draft's share of the tokens: its share if all tokens had equal attributions
    mass: float  # sum of absolute attributions
    log_odds: float  # of the given answer
    difference: float  # log_odds minus those of the baseline
    error: float  # sum of attributions minus `difference`: 0 with enough steps (completeness)


def parts(task: Any, tokenizer: Any, example: Example, draft: str, answer: str) -> Parts:
    """Split a question, its draft and the given answer (Yes or No) into token ids, as `cot.ablated` reads them.

    A token that holds the draft's last letters and more belongs to the conclusion.
    """
    other = next(one for one in ANSWERS if one != answer)
    given, against = answer_rows(tokenizer, example, [task.with_answer(draft, one) for one in (answer, other)])
    alone = row_of(tokenizer, example.prompt, draft)
    start, end = alone.labels.index(True), given.labels.index(True)
    before, completion = given.tokens[:start], given.tokens[start:end]
    length = _common_prefix(completion, alone.tokens[start:-1])
    return Parts(before, completion[:length], completion[length:], given.tokens[end], against.tokens[end])


def attribute(model: Any, asked: Parts, baseline: int, steps: int = 32) -> Attribution:
    """Compute integrated gradients of a causal language model of transformers, with or without a LoRA adapter.

    `baseline` is the id of the baseline's token; `steps` are those of a Gauss-Legendre quadrature. Raises ValueError if
    the log-odds depend on no token.
    """
    words = model.get_input_embeddings()
    tokens = torch.tensor([asked.tokens], device=words.weight.device)
    with torch.no_grad():
        inputs, start = words(tokens), words(torch.full_like(tokens, baseline))

    def log_odds(embeddings: Tensor) -> Tensor:
        """Map embeddings (N, tokens, hidden_size) to log-odds (N,)."""
        logits = model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=1).logits[:, -1]
        return logits[:, asked.given].double() - logits[:, asked.other].double()

    gradients = IntegratedGradients(log_odds)
    found = gradients.attribute(inputs, start, n_steps=steps, internal_batch_size=min(steps, STEPS_PER_PASS))
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


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common prefix."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
