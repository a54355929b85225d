"""Samples from a base: plain transformers and PEFT are the reference."""

from __future__ import annotations

import peft
import pytest
import torch

from tests.support import miniatures
from trainables.models.loading import load
from trainables.models.sampling import sample, with_adapter

PROMPTS = [[3, 4, 5], [6, 7, 8, 9, 10, 11, 12], [20]]


@pytest.fixture
def folder(tmp_path):
    """A base, and beside it an adapter that changes what it says."""
    model = miniatures.model("qwen2")
    model.save_pretrained(tmp_path / "base")
    miniatures.tokenizer().save_pretrained(tmp_path / "base")
    draws = torch.Generator().manual_seed(0)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=draws) * 0.5
    adapted.save_pretrained(tmp_path / "adapter")
    load.cache_clear()
    yield tmp_path
    load.cache_clear()


def alone(model, prompt):
    """Return transformers' greedy completion of one prompt, without padding, up to the end token."""
    made = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=1)
    return made[0, len(prompt) :].tolist()


@pytest.mark.parametrize("adapter", [None, "adapter"])
def test_greedy_samples_are_those_of_plain_transformers(folder, adapter):
    base = with_adapter(str(folder / "base"), folder / adapter if adapter else None)
    model = miniatures.model("qwen2")
    if adapter:
        model = peft.PeftModel.from_pretrained(model, folder / adapter)
    for prompt, got in zip(PROMPTS, sample(base, PROMPTS, 12, 0.0, seed=0), strict=True):
        wanted = alone(model, prompt)
        assert got.ended == (1 in wanted)
        assert got.tokens == wanted[: wanted.index(1) if 1 in wanted else None]


def test_an_adapter_changes_what_is_said_and_leaves_the_next_load_alone(folder):
    plain = sample(load(str(folder / "base")), PROMPTS, 12, 0.0, seed=0)
    assert sample(with_adapter(str(folder / "base"), folder / "adapter"), PROMPTS, 12, 0.0, seed=0) != plain
    assert sample(load(str(folder / "base")), PROMPTS, 12, 0.0, seed=0) == plain


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_samples_follow_the_models_own_distribution(temperature):
    """600 draws of one token against softmax(logits / temperature), though the base's own settings say top-k 1."""
    base = miniatures.base()
    base.model.generation_config.top_k = 1
    base.model.generation_config.repetition_penalty = 3.0
    with torch.no_grad():
        wanted = (base.model(torch.tensor([PROMPTS[0]])).logits[0, -1] / temperature).softmax(-1)
    drawn = [one.tokens[0] if one.tokens else 1 for one in sample(base, [PROMPTS[0]] * 600, 1, temperature, seed=3)]
    counts = torch.bincount(torch.tensor(drawn), minlength=len(wanted))
    spread = (600 * wanted * (1 - wanted)).sqrt()
    assert ((counts - 600 * wanted).abs() <= 4.5 * spread + 1).all()
    assert (counts > 0).sum() > 5


def test_a_seed_decides_and_the_callers_draws_go_on(folder):
    base = load(str(folder / "base"))
    before = torch.random.get_rng_state()
    one = sample(base, PROMPTS, 12, 1.0, seed=5)
    assert sample(base, PROMPTS, 12, 1.0, seed=5) == one
    assert sample(base, PROMPTS, 12, 1.0, seed=6) != one
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_adapter_of_another_base_is_told_in_one_line(folder):
    with pytest.raises(ValueError, match=r"adapter in .* does not fit the base 'builtin:tiny' \(.*\)$"):
        with_adapter("builtin:tiny", folder / "adapter")
