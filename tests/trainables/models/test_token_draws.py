"""Draws: by hand, against the distribution, against transformers' top-p, and that no row depends on another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import TopPLogitsWarper

from tests.support.miniatures import base
from trainables.core import Draw
from trainables.models.hf_generate import generate_completions
from trainables.models.token_draws import TokenDraws, uniforms
from trainables.packed.decoding import decode_prompts, generate
from trainables.packed.host import Host
from trainables.packed.requests import DecodeRequest

PROBABILITIES = torch.tensor([0.5, 0.3, 0.15, 0.05])
LOGITS = PROBABILITIES.log()
ROWS = [[5, 6, 7]] * 5 + [[8, 9, 10, 11, 12]] * 5 + [[3, 4], [5, 6, 7]]


def drawn(logits: torch.Tensor, draws: list[Draw | None], place: int = 0) -> list[int]:
    owners = range(len(draws))
    return TokenDraws(draws, place + 1).choose(logits.expand(len(draws), -1), owners, place)[0].tolist()


def test_a_token_is_where_the_distribution_function_passes_the_keys_number() -> None:
    keys = range(40)
    numbers = [uniforms(key, 3)[2] for key in keys]
    by_hand = [int(np.searchsorted([0.5, 0.8, 0.95, 1.0], number, side="right")) for number in numbers]
    assert drawn(LOGITS, [Draw(key) for key in keys], place=2) == by_hand
    assert set(by_hand) == {0, 1, 2, 3}


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.8), (1.0, 0.79)])
def test_tokens_come_as_often_as_transformers_warpers_say(temperature: float, top_p: float) -> None:
    expected = TopPLogitsWarper(top_p)(None, (LOGITS.double() / temperature)[None]).softmax(-1)[0]  # type: ignore[arg-type]
    said = drawn(LOGITS, [Draw(key, temperature, top_p) for key in range(8000)])
    counts = torch.bincount(torch.tensor(said), minlength=4)
    assert not counts[expected == 0].any()
    kept = expected > 0
    if kept.sum() > 1:
        assert stats.chisquare(counts[kept], 8000 * expected[kept]).pvalue > 1e-3


def test_figures_are_of_the_tempered_distribution() -> None:
    draws = TokenDraws([Draw(3, 2.0, 0.6), None], 1)
    next_R, logprob_R, entropy_R = draws.choose(LOGITS.expand(2, -1), [0, 1], 0)
    tempered = (LOGITS / 2).softmax(-1)
    assert logprob_R[0] == pytest.approx(tempered[next_R[0]].log().item())
    assert entropy_R[0] == pytest.approx(-(tempered * tempered.log()).sum().item())
    assert next_R[1] == 0
    assert logprob_R[1] == pytest.approx(LOGITS[0].item())


def test_rows_without_a_number_in_their_logits_leave_the_others_alone() -> None:
    good, draws = torch.randn(6, 30, generator=torch.Generator().manual_seed(0)), [Draw(k, 0.7, 0.9) for k in range(6)]
    wanted = TokenDraws(draws, 1).choose(good, range(6), 0)
    bad = good.clone()
    bad[::2] = torch.nan
    found = TokenDraws(draws, 1).choose(bad, range(6), 0)
    assert all(torch.equal(one[1::2], other[1::2]) for one, other in zip(found, wanted, strict=True))
    assert all(0 <= token < 30 for token in found[0].tolist())


def test_a_hosts_samples_are_those_of_transformers_and_depend_on_their_keys_alone() -> None:
    """Beside a greedy prompt, with copies of a prompt that are read once, and decoded a few at a time."""
    ours = base("qwen2")
    draws = [Draw(1000 + i, 1.5, 0.9) for i in range(len(ROWS))]
    theirs = generate_completions(ours.model, ROWS, ours.eos, 8, draws=draws)
    host = Host(ours)
    request = DecodeRequest(decode_prompts(host.shape.seats, ROWS, 0, 8, draws))
    greedy = DecodeRequest(decode_prompts(host.shape.seats, ROWS, 0, 8))
    (found, _) = host.executor.decode([request, greedy])
    assert [one.tokens for one in found] == [one.tokens for one in theirs]
    assert [one.ended for one in found] == [one.ended for one in theirs]
    for one, other in zip(found, theirs, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert one.entropies == pytest.approx(other.entropies, abs=1e-4)
    assert len({tuple(one.tokens) for one in found[:5]}) > 1, "the samples of a prompt differ"
    few = generate(host.stack, request.prompts, 8)
    assert [(one.tokens, one.logprobs, one.entropies) for one in few] == [
        (one.tokens, one.logprobs, one.entropies) for one in found
    ]
    host.shut()


def test_a_copied_prompt_is_read_once() -> None:
    host, rows = Host(base("qwen2")), []
    prompts = decode_prompts(host.shape.seats, [[5, 6, 7, 8]] * 30 + [[9, 6]] * 2, 0, 1, [Draw(i) for i in range(32)])
    watching = host.base.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["attention_mask"])), with_kwargs=True
    )
    generate(host.stack, prompts, 128)
    watching.remove()
    assert rows == [8], "two rows and idle lanes, not 32"
    host.shut()
