"""A saved model answers in a host as it did when it was trained, and the untouched base as without it."""

from __future__ import annotations

import json

import peft
import pytest
import torch

from trainables.core import Row
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.ia3 import Ia3Config
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.adapter_config import CONFIG_FILE
from trainables.models.loading import load
from trainables.models.peft_adapters import fits_a_host, saved_adapter
from trainables.models.tokenization import decode, encode_prompt, encode_row
from trainables.packed.host import Host
from trainables.packed.saved_model import open_trained, open_untouched
from trainables.packed.solo import Solo
from trainables.packed.specs import HostFull, Shape
from trainables.tasks.arena.task import ArenaTask

TASK = ArenaTask(train_size=16, search_size=5, test_size=5)
LEARNERS = {
    "lora": LoraConfig(learning_rate=3e-2, steps_per_round=4),
    "soft_prompt": SoftPromptConfig(learning_rate=0.3, steps_per_round=4),
    "hybrid": HybridConfig(learning_rate=3e-2, prompt_learning_rate=0.3, steps_per_round=4),
    "dora": DoraConfig(learning_rate=3e-2, steps_per_round=4),
    "ia3": Ia3Config(learning_rate=0.3, steps_per_round=4),
    "full": FullConfig(learning_rate=1e-2, steps_per_round=4),
}


def trained(name, folder):
    """Train a round and save it; return what it says."""
    base = load("builtin:tiny")
    made = LEARNERS[name].build(base, TASK, 0)
    learner = made if hasattr(made, "round") else Solo(base, made, 0)
    learner.round()
    completions = learner.evaluate().completions
    learner.save(str(folder))
    learner.close()
    load.cache_clear()
    return list(completions)


def said(model):
    tokenizer = model.host.base.tokenizer
    prompts = [encode_prompt(tokenizer, example.prompt) for example in TASK.search()]
    completions = model.host.complete(prompts, TASK.max_new_tokens, model.trial_id)
    return [decode(tokenizer, one.tokens) for one in completions]


@pytest.mark.parametrize("name", LEARNERS)
def test_a_saved_model_says_what_it_said_in_the_sweep_and_the_base_what_it_said_there(name, tmp_path):
    completions = trained(name, tmp_path)
    base = load("builtin:tiny")
    load.cache_clear()
    model = open_trained(base, tmp_path)
    assert said(model) == completions
    model.host.shut()
    untouched = open_untouched(base)
    learner = LEARNERS["lora"].build(base, TASK, 0)
    assert said(untouched) == list(untouched.host.evaluate_untouched(learner).completions) != completions
    untouched.host.shut()
    fresh = load("builtin:tiny")
    load.cache_clear()
    assert said(open_untouched(fresh)) == said(open_untouched(base)), "nothing of the adapter is left"


@pytest.mark.parametrize("name", ["lora", "hybrid"])
def test_likelihoods_are_log_probabilities_and_what_greedy_decoding_says(name, tmp_path):
    trained(name, tmp_path)
    base = load("builtin:tiny")
    load.cache_clear()
    host, trial = open_trained(base, tmp_path)
    prompts = [encode_prompt(base.tokenizer, example.prompt) for example in TASK.search()]
    greedy = [one.tokens[:4] for one in host.complete(prompts, 4, trial)]
    rows = [encode_row(base.tokenizer, example) for example in TASK.search()]
    rows += [
        Row((*prompt, *tokens), (False,) * len(prompt) + (True,) * len(tokens))
        for prompt, tokens in zip(prompts, greedy, strict=True)
        if tokens
    ]
    measured = host.likelihoods(rows, trial)
    for one, logprobs in zip(measured, host.logprobs(rows, trial), strict=True):
        assert torch.equal(one[:, 0], logprobs)
    assert all(bool(one[:, 1].all()) for one in measured[len(TASK.search()) :])
    assert not all(bool(one[:, 1].all()) for one in measured)
    host.shut()


def test_a_saved_adapter_is_not_trained_and_needs_a_seat_that_is_large_enough(tmp_path):
    trained("lora", tmp_path)
    base = load("builtin:tiny")
    load.cache_clear()
    saved = saved_adapter(base, tmp_path)
    with pytest.raises(HostFull, match="takes 1 and 0: open one with a larger max_rank"):
        Host(base, Shape(max_rank=1, max_prompt=0)).open_saved("a", saved)
    host = Host(base, Shape(max_rank=saved.r, max_prompt=0))
    host.open_saved("a", saved)
    with pytest.raises(ValueError, match="a saved adapter answers and is not trained"):
        host.round("a")
    host.shut()


@pytest.mark.parametrize(
    "changed",
    [
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 2}},
        {"bias": "all"},
        {"peft_type": "IA3"},
        {"target_parameters": ["mlp.experts.down_proj"]},
        {"alora_invocation_tokens": [5]},
    ],
)
def test_what_a_host_cannot_compute_is_left_to_peft(changed, tmp_path):
    trained("lora", tmp_path)
    assert fits_a_host(tmp_path)
    file = tmp_path / CONFIG_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    assert not fits_a_host(tmp_path)
    with pytest.raises(ValueError, match="is no plain LoRA or soft prompt"):
        saved_adapter(load("builtin:tiny"), tmp_path)


@pytest.mark.parametrize(("more", "refused"), [({"modules_to_save": ["lm_head"]}, ""), ({"bias": "all"}, "bias='all'")])
def test_what_an_adapter_holds_beside_its_matrices_leaves_the_base_again(more, refused, tmp_path):
    """Espalier's own learners save no such adapters, others do. Biases cannot be taken out, so those are refused."""
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **more)
    other = peft.get_peft_model(load("builtin:tiny").model, config)
    with torch.no_grad():
        for name, value in other.named_parameters():
            if value.requires_grad and "lora_A" not in name:
                value += 0.5
    other.save_pretrained(tmp_path)
    load.cache_clear()
    base = load("builtin:tiny")
    load.cache_clear()
    tokens = torch.arange(1, 9)[None]
    before, names = base.model(tokens).logits, [name for name, _ in base.model.named_modules()]
    if refused:
        with pytest.raises(ValueError, match=refused):
            open_trained(base, tmp_path)
        assert torch.equal(base.model(tokens).logits, before), "it is refused before PEFT has changed the base"
        assert [name for name, _ in base.model.named_modules()] == names
        return
    model = open_trained(base, tmp_path)
    assert not torch.equal(base.model(tokens).logits, before)
    model.host.shut()
    open_untouched(base)
    assert torch.equal(base.model(tokens).logits, before)
