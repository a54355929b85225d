"""Draw the next tokens of completions at random, each by a number of its own.

The number at a place of a completion is the one at that place in a counter-based stream (Philox, Salmon et al. 2011)
whose key is the completion's (`core.Draw`). It picks a token by the inverse of the distribution function. So a
completion depends on its key and on the model's probabilities, and never on what is decoded beside it or has been
drawn before.

Shapes: R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trainables.core import Draw


def uniforms(key: int, count: int) -> np.ndarray:
    """Return the first `count` numbers of a key's stream: float64 in [0, 1)."""
    return (np.random.Philox(key=key).random_raw(count) >> np.uint64(11)) * 2.0**-53


class TokenDraws:
    """The draws of prompts that are decoded together; None for a prompt that is completed greedily."""

    def __init__(self, draws: Sequence[Draw | None], most: int) -> None:
        """`most`: the tokens of the longest completion."""
        self._draws = {place: draw for place, draw in enumerate(draws) if draw is not None}
        self._numbers = {place: uniforms(draw.key, most) for place, draw in self._draws.items()}

    def choose(self, logits_R_V: Tensor, owners: Sequence[int | None], place: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return each row's next token (R,), its log-probability (R,) and the entropy of its distribution (R,).

        `owners`: the prompt of each row, None for idle ones. Both figures are in nats and float32, of the tempered
        distribution before `top_p`. A greedy row has the likeliest token, and nonsense in place of an entropy.
        """
        next_R, logprob_R = likeliest(logits_R_V)
        entropy_R = torch.zeros_like(logprob_R)
        drawn = [(row, self._draws[one], self._numbers[one]) for row, one in enumerate(owners) if one in self._draws]
        if not drawn:
            return next_R, logprob_R, entropy_R
        places, own, numbers = zip(*drawn, strict=True)
        rows = torch.tensor(places, device=logits_R_V.device)
        heat = logprob_R.new_tensor([draw.temperature for draw in own])[:, None]
        logprobs = (logits_R_V[rows].float() / heat).log_softmax(-1)
        probabilities = logprobs.exp()
        number_R = torch.tensor([own[place] for own in numbers], dtype=torch.float64, device=rows.device)
        chosen = _inverse(_nucleus(probabilities, own), number_R)
        next_R[rows], logprob_R[rows] = chosen, logprobs.gather(-1, chosen[:, None])[:, 0]
        entropy_R[rows] = -(probabilities * logprobs).nan_to_num(0.0).sum(-1)
        return next_R, logprob_R, entropy_R


def likeliest(logits_R_V: Tensor) -> tuple[Tensor, Tensor]:
    """Return the likeliest token of each row, and its log-probability (nats, float32)."""
    wide, next_R = logits_R_V.float(), logits_R_V.argmax(-1)
    return next_R, wide.gather(-1, next_R[:, None])[:, 0] - wide.logsumexp(-1)


def _nucleus(probability_R_V: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Set to 0 what lies outside the smallest set with the probability `top_p` (Holtzman et al. 2020)."""
    if not (cut := [row for row, draw in enumerate(draws) if draw.top_p < 1]):
        return probability_R_V
    rows = torch.tensor(cut, device=probability_R_V.device)
    falling, order = probability_R_V[rows].sort(dim=-1, descending=True, stable=True)
    least = falling.new_tensor([draws[row].top_p for row in cut])[:, None]
    falling = falling.masked_fill(falling.cumsum(-1) - falling >= least, 0.0)  # the likeliest always stays
    return probability_R_V.index_copy(0, rows, torch.zeros_like(falling).scatter(-1, order, falling))


def _inverse(weight_R_V: Tensor, number_R: Tensor) -> Tensor:
    """Return the token at which the running sum of the weights passes `number` times their sum."""
    running = weight_R_V.double().cumsum(-1)
    passed = torch.searchsorted(running, (number_R * running[:, -1])[:, None], right=True)[:, 0]
    last = weight_R_V.shape[-1] - 1 - (weight_R_V > 0).flip(-1).to(torch.uint8).argmax(-1)  # rounding may pass the end
    return passed.minimum(last)
