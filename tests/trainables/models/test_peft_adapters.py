"""How an adapter begins: on modules that can be adapted, from tokens that there are, and the base is given back."""

from __future__ import annotations

import pytest
import torch

from tests.support.miniatures import WORDS, base
from tests.support.toys import Letters
from trainables.core import Adapter
from trainables.learners.lm.dora import DoraConfig
from trainables.models.peft_adapters import initial_adapter

PROMPT = torch.tensor([[5, 6, 7]])


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("embed_tokens", "'model.embed_tokens' is no linear layer but Embedding"),
        ("norm", "Qwen2RMSNorm.* not supported"),
    ],
)
def test_a_module_that_cannot_be_adapted_is_named_and_the_base_given_back(module, words):
    ours = base("qwen2")
    names, said = [name for name, _ in ours.model.named_modules()], ours.model(PROMPT).logits
    wanted = initial_adapter(base("qwen2"), Adapter(r=2, lora_alpha=4), 0).values
    targets = ("q_proj", module)
    with pytest.raises(ValueError, match=words) as error:
        initial_adapter(ours, Adapter(r=2, lora_alpha=4, target_modules=targets), 0)
    assert "\n" not in str(error.value)
    if module == "norm":  # DoRA of embeddings is PEFT's to give
        with pytest.raises(ValueError, match=words):
            DoraConfig(target_modules=targets).build(ours, Letters(), 0)
    assert [name for name, _ in ours.model.named_modules()] == names
    assert not any(p.requires_grad for p in ours.model.parameters())
    assert torch.equal(ours.model(PROMPT).logits, said)
    found = initial_adapter(ours, Adapter(r=2, lora_alpha=4), 0).values
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_soft_prompt_begins_as_tokens_that_there_are():
    """The embedding has 64 rows, the tokenizer fewer tokens: many bases pad theirs to a round number."""
    ours = base("qwen2")
    rows = ours.model.get_input_embeddings().weight
    begun = torch.cat(
        [initial_adapter(ours, Adapter(num_virtual_tokens=20), seed).values["prompt"] for seed in range(3)]
    )
    tokens = (begun[:, None] == rows).all(-1).int().argmax(-1)
    assert torch.equal(rows[tokens], begun)
    assert tokens.max() < len(WORDS) < len(rows)
    assert len(tokens.unique()) > 20
