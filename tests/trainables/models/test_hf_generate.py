"""Greedy decoding of many rows at once against transformers' own."""

from __future__ import annotations

import peft
import pytest
import torch

from tests.support.miniatures import BLOOM, CONFIGS, base
from tests.support.scripted_learner import PROMPTS, completing, scripted
from trainables.core import Adapter
from trainables.models.hf_generate import generate_completions
from trainables.packed.host import Host
from trainables.packed.specs import Shape


def completing_learner(prompts):
    return scripted(Adapter(), evaluation=lambda: completing(prompts))


def columns(evaluation):
    return [evaluation.metrics[name] for name in ("tokens", "ended", "logprobs")]


@pytest.mark.parametrize("family", CONFIGS | BLOOM)
def test_generation_equals_transformers(family):
    """Greedy, left-padded, compacted: the same tokens as transformers' own generate, row by row."""
    ours = base(family)
    got = Host(ours, Shape(1, max_rank=0, max_prompt=0)).evaluate_untouched(completing_learner(PROMPTS * 2))
    for prompt, tokens, end, logprobs in zip(PROMPTS * 2, *columns(got), strict=True):
        wanted = ours.model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=8, do_sample=False
        )[0, len(prompt) :].tolist()
        assert end == (1 in wanted)
        assert tokens == (wanted[: wanted.index(1)] if end else wanted)
        whole = torch.tensor([prompt + tokens + [1] * end])
        likely = ours.model(whole).logits[0].log_softmax(-1)[range(len(prompt) - 1, whole.shape[1] - 1)]
        assert logprobs == pytest.approx(likely.max(-1).values.tolist(), abs=1e-4)


def test_generation_stops_rows_one_by_one():
    """A prompt that ends early does not change the others, and its end token is not part of it."""
    host = Host(base("qwen2"), Shape(1, decode_lanes=64))
    prompts = [[a, b] for a in range(4, 60, 5) for b in range(4, 60, 7)]
    alone = [host.evaluate_untouched(completing_learner([prompt])) for prompt in prompts]
    together = host.evaluate_untouched(completing_learner(prompts))
    assert len({len(tokens) for tokens in together.metrics["tokens"]}) > 2, "rows must end at different times"
    assert together.metrics["tokens"] == [one.metrics["tokens"][0] for one in alone]
    assert together.metrics["ended"] == [one.metrics["ended"][0] for one in alone]


def test_a_bases_own_generation_config_is_set_aside():
    """Penalties, bans and second ends of a base would give a model of one trial other answers than a host gives."""
    ours = base("qwen2")
    wanted = Host(ours, Shape(1, max_rank=0, max_prompt=0)).evaluate_untouched(completing_learner(PROMPTS * 2))
    said = {token for tokens in wanted.metrics["tokens"] for token in tokens}
    config = ours.model.generation_config
    config.update(repetition_penalty=9.0, eos_token_id=[1, min(said)], suppress_tokens=[max(said)], min_new_tokens=5)
    found = generate_completions(ours.model, PROMPTS * 2, ours.eos, 8)
    for own, *alone in zip(found, *columns(wanted), strict=True):
        assert (own.tokens, own.ended) == (alone[0], alone[1])
        assert own.logprobs == pytest.approx(alone[2], abs=1e-5)
    assert ours.model.generation_config is config
    adapted = peft.get_peft_model(ours.model, peft.LoraConfig(target_modules=["q_proj"]))
    assert generate_completions(adapted, PROMPTS * 2, ours.eos, 8)[3].tokens == found[3].tokens
    assert adapted.generation_config is config
