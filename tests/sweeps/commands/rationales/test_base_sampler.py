"""Samples of a base on this machine."""

from __future__ import annotations

import peft
import torch

from sweeps.commands.rationales.base_sampler import BaseSampler
from tests.support.endpoint_kit import reasoner, save_base
from trainables.models.loading import load
from trainables.models.sampling import sample, with_adapter
from trainables.models.tokenization import decode, encode_prompt
from trainables.tasks.strategyqa.task import StrategyQaTask


def test_an_adapter_that_was_trained_again_is_asked_again(tmp_path):
    """It lies in the same place and has the same name. It is asked the plain question, as it was trained on."""
    base = reasoner()
    name, adapter = save_base(base, tmp_path / "base"), tmp_path / "adapter"
    prompts = [e.prompt for e in StrategyQaTask(train_size=6).train()]
    draws, said_by = torch.Generator().manual_seed(0), []
    for _ in range(2):
        model = peft.get_peft_model(reload(name).model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.data = torch.randn(parameter.shape, generator=draws)
        model.save_pretrained(str(adapter))
        words = BaseSampler(name, adapter, tmp_path, "", temperature=0.0, max_tokens=12, seed=0, batch_size=4)
        said_by.append([reply.text for reply in words.ask_all(prompts)])
        words.close()
        rows = [encode_prompt(base.tokenizer, prompt) for prompt in prompts]
        alone = [sample(with_adapter(name, adapter), [row], 12, 0.0, 0)[0] for row in rows]
        assert said_by[-1] == [decode(base.tokenizer, one.tokens) for one in alone]
    assert said_by[0] != said_by[1]


def reload(name):
    load.cache_clear()
    return load(name)
