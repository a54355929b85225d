"""Modules that LoRA adapts: a base that lacks one is refused before anything starts, for every learner."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    CTRLConfig,
    DeepseekV3Config,
    FalconH1Config,
    Gemma3Config,
    GPT2Config,
    GptOssConfig,
    MambaConfig,
    MixtralConfig,
    PersimmonConfig,
    PhimoeConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

from search_spaces.space import Space
from sweeps.arena import SWEEP as ARENA
from sweeps.spec.data_summary import data_of
from sweeps.tuning.session import check
from tests.support.miniatures import COMMON, CONFIGS, DECODER, base, tokenizer
from tests.support.toys import Letters
from trainables.bad_input import BadInput
from trainables.core import Adapter, Pair
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.ia3 import Ia3Config
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.qlora import QloraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.loading import base_sizes, load
from trainables.models.peft_adapters import initial_adapter
from trainables.packed.solo import Solo

SHAPE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}


def sweep(learner, base, seats="auto"):
    pair = replace(ARENA.pairs[0], learner=learner, base=base)
    return replace(ARENA, pairs=(pair,), optional=(), space=Space({}), seats=seats)


@pytest.fixture
def ctrl(tmp_path):
    """Return a base whose attention has names that are nobody's."""
    return saved(tmp_path, CTRLConfig(vocab_size=64, n_embd=32, dff=48, n_layer=1, n_head=4, n_positions=64))


def saved(folder, config):
    """Save a small model with a tokenizer; return its name."""
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("config", "seats"), [(LoraConfig, 1), (LoraConfig, "auto"), (DoraConfig, 1), (HybridConfig, 1)]
)
def test_targets_that_a_base_lacks_are_told_before_anything_starts(config, seats, ctrl):
    """Also if others of the names are right, and where the defaults are what it lacks."""
    learner = config(target_modules=("q_proj", "v_porj"))
    with pytest.raises(BadInput, match="'builtin:tiny': no module 'v_porj' for LoRA; set target_modules to") as error:
        check(sweep(learner, "builtin:tiny", seats))
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match="no default LoRA targets for 'ctrl'; set target_modules to"):
        check(sweep(config(), ctrl, seats))


@pytest.mark.parametrize(
    "learner", [SoftPromptConfig(), QloraConfig(), LoraConfig(target_modules=("Wq", "multi_head_attention.Wv"))]
)
def test_who_needs_no_default_targets_may_start(learner, ctrl):
    check(sweep(learner, f"{ctrl}:nf4" if learner.name == "qlora" else ctrl))


def test_all_linear_layers_are_all_but_the_head(tmp_path):
    """`all-linear` is PEFT's word. GPT-2's layers are Conv1D."""
    GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=4).save_pretrained(tmp_path / "gpt2")
    PersimmonConfig(vocab_size=64, **SHAPE).save_pretrained(tmp_path / "persimmon")
    for kind, inner in (("gpt2", 4 * 32), ("persimmon", 48)):
        sizes = (32 + 3 * 32) + (32 + 32) + 2 * (32 + inner)
        assert base_sizes(str(tmp_path / kind), ("all-linear",))[1] == sizes
    assert not any("head" in name for name in made("qwen2", "all-linear"))
    assert made("qwen2", "all-linear") == {
        f"model.layers.{layer}.{name}"
        for layer in range(CONFIGS["qwen2"].num_hidden_layers)
        for name in (
            *(f"self_attn.{part}_proj" for part in "qkvo"),
            *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
        )
    }


def made(family, *targets):
    return set(initial_adapter(base(family), Adapter(r=2, lora_alpha=2, target_modules=targets), 0).modules)


def test_a_base_with_code_of_its_own_is_outlined_by_that_code(tmp_path, monkeypatch):
    """A copy of the code is kept elsewhere than in the user's cache."""
    config = 'class Own(LlamaConfig):\n    model_type = "own"\n'
    model = "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = Own\n"
    (tmp_path / "own.py").write_text(f"from transformers import LlamaConfig, LlamaForCausalLM\n{config}{model}")
    where = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    facts = {"model_type": "own", "vocab_size": 64, "auto_map": where}
    (tmp_path / "config.json").write_text(json.dumps(facts | SHAPE))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", [*sys.path])
    assert base_sizes(f"{tmp_path}:remote-code", ("q_proj",))[1] == 32 + 32
    assert [*(tmp_path / "modules").rglob("own.py")]


EXPERTS = {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}


def test_experts_are_trained_around(tmp_path):
    """Experts are stacked parameters. LoRA goes onto attention, also where PEFT's table has modules of long ago."""
    name = saved(tmp_path, MixtralConfig(**COMMON, **DECODER, **EXPERTS))
    for learner in (LoraConfig(), HybridConfig(), DoraConfig()):
        check(sweep(learner, name, "auto"))
    ours = load(name)
    modules = initial_adapter(ours, Adapter(r=2, lora_alpha=2), 0).modules
    assert {module.rpartition(".")[2] for module in modules} == {"q_proj", "v_proj"}
    held = Solo(ours, LoraConfig(r=2, steps_per_round=1).build(ours, Letters(), 0), 0)
    assert held.round().loss > 0
    held.evaluate()
    held.close()


SHARED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_key_value_heads": 2}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
LATENT |= {"first_k_dense_replace": 1, "moe_intermediate_size": 16, "num_experts_per_tok": 2}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
MIXTURES = {
    "mixtral": (MixtralConfig(**COMMON, **DECODER, **EXPERTS), ATTENTION),
    "qwen3_moe": (Qwen3MoeConfig(**COMMON, **DECODER, **SHARED), ATTENTION),
    "gpt_oss": (GptOssConfig(**COMMON, **DECODER, **EXPERTS, head_dim=8), ATTENTION),
    "phimoe": (PhimoeConfig(**COMMON, **DECODER, **EXPERTS), ATTENTION),  # its router is a linear layer
    "qwen2_moe": (
        Qwen2MoeConfig(**COMMON, **DECODER, **SHARED, shared_expert_intermediate_size=16),
        {*ATTENTION, "gate_proj", "up_proj", "down_proj", "shared_expert_gate"},  # of the shared expert
    ),
    "deepseek_v3": (
        DeepseekV3Config(**COMMON, **DECODER, **LATENT, n_routed_experts=4, n_group=1, topk_group=1),
        {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"},  # PEFT has no names for shared ones
    ),
}


@pytest.mark.parametrize("kind", MIXTURES)
def test_all_linear_layers_of_a_mixture_are_those_around_its_experts(kind, tmp_path):
    """PEFT would put the experts to them, by names from before they were stacked, and computes these alone."""
    config, names = MIXTURES[kind]
    name = saved(tmp_path / "base", config)
    learner = LoraConfig(r=2, lora_dropout=0.1, steps_per_round=1, target_modules=("all-linear",))
    check(sweep(learner, name))
    ours = load(name)
    modules = initial_adapter(ours, learner.adapter(), 0).modules
    assert {module.rpartition(".")[2] for module in modules} == names
    assert base_sizes(name, ("all-linear",))[1] == sum(map(sum, modules.values()))
    held = Solo(ours, learner.build(ours, Letters(), 0), 0)
    held.round()
    (tmp_path / "adapter").mkdir()
    held.save(str(tmp_path / "adapter"))
    tokens = torch.arange(1, 9)[None]
    before = ours.model(tokens).logits
    held.close()
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(name), tmp_path / "adapter")
    assert not torch.equal(theirs(tokens).logits, before), "PEFT loads what was trained"
    alone = DoraConfig(r=2, steps_per_round=1, target_modules=("all-linear",)).build(ours, Letters(), 0)
    assert alone.round().loss > 0
    alone.close()
    (told,) = data_of(Pair(learner, Letters(), name))
    assert re.search(r"[1-9]\d?% of its weights are stacked experts, which stay frozen; LoRA adapts", told)
    assert data_of(Pair(SoftPromptConfig(), Letters(), name)) == []


def test_a_target_that_peft_takes_for_experts_is_refused_before_anything_starts(tmp_path):
    """Dense layers and shared experts have modules of that name, which PEFT would leave out."""
    name = saved(tmp_path, MIXTURES["deepseek_v3"][0])
    for targets in (("o_proj", "gate_proj"), ("down_proj",)):
        with pytest.raises(BadInput, match=rf"PEFT takes the target '{targets[-1]}' for its stacked experts, .*o_proj"):
            check(sweep(LoraConfig(target_modules=targets), name))
        with pytest.raises(
            ValueError, match=r"is a stack of experts, whose adapters only PEFT computes|also targeting"
        ):
            initial_adapter(load(name), Adapter(r=2, lora_alpha=2, target_modules=targets), 0)
    check(sweep(LoraConfig(target_modules=("q_b_proj", "o_proj")), name))


def test_what_peft_refuses_is_told_before_anything_starts(tmp_path):
    """Its kernels read the weights of `out_proj` by themselves; PEFT knows."""
    shape = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8}
    name = saved(tmp_path, FalconH1Config(**COMMON, **DECODER, **shape, num_key_value_heads=2, mamba_chunk_size=8))
    check(sweep(LoraConfig(), name))
    with pytest.raises(BadInput, match=r"LoRA cannot be put onto it \(.*'out_proj' is incomp.*; set target_modules to"):
        check(sweep(LoraConfig(target_modules=("all-linear",)), name))
    check(sweep(LoraConfig(), name))
    mixture = saved(tmp_path / "mixture", MIXTURES["phimoe"][0])
    with pytest.raises(BadInput, match=r"module '.*\.router' is the router of experts; leave it out"):
        check(sweep(LoraConfig(target_modules=("q_proj", "router")), mixture))


def test_a_state_space_model_names_the_learners_that_train_it(tmp_path):
    name = saved(tmp_path, MambaConfig(**COMMON, hidden_size=32, state_size=4, num_hidden_layers=1))
    for learner in (LoraConfig(), SoftPromptConfig(), HybridConfig()):
        words = f"'mamba' keeps no keys and values, with which {learner.name!r} .*; use a learner .*: full or dora$"
        with pytest.raises(BadInput, match=words):
            check(sweep(learner, name))
    for learner in (FullConfig(steps_per_round=1), DoraConfig(r=2, steps_per_round=1)):
        check(sweep(learner, name))
        alone = learner.build(load(name), Letters(), 0)
        assert alone.round().loss > 0
        alone.evaluate()
        alone.close()


def test_a_number_format_that_a_learner_cannot_train_is_refused_before_it_is_loaded(tmp_path):
    name = saved(tmp_path, Qwen2Config(**COMMON, **DECODER, num_key_value_heads=2))
    for learner, on in ((QloraConfig(), f"{name}:nf4"), (FullConfig(), name), (LoraConfig(), f"{name}:nf4")):
        check(sweep(learner, on))
    with pytest.raises(BadInput, match=r"'qlora' needs a base in 4 bits; use --base .*:nf4, or train lora on it$"):
        check(sweep(QloraConfig(), name))
    with pytest.raises(BadInput, match=r"'full' cannot train the quantized weights of .*:nf4'; drop its :nf4"):
        check(sweep(FullConfig(), f"{name}:nf4"))


def test_lora_stays_off_a_vision_tower(tmp_path):
    text = DECODER | {"vocab_size": 64, "num_key_value_heads": 2, "head_dim": 8}
    vision = DECODER | {"num_hidden_layers": 1, "image_size": 28, "patch_size": 14}
    tokens = {"image_token_index": 60, "boi_token_index": 61, "eoi_token_index": 62}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, **tokens)
    name = saved(tmp_path, config)
    ours = load(name)
    for targets in ((), ("q_proj",), ("all-linear",)):
        adapter = Adapter(r=2, lora_alpha=2, target_modules=targets)
        modules = initial_adapter(ours, adapter, 0).modules
        assert modules
        assert all(module.startswith("model.language_model.") for module in modules)
        assert base_sizes(name, targets or None)[1] == sum(map(sum, modules.values()))
    trained = FullConfig(steps_per_round=1).build(ours, Letters(), 0).parameters
    assert not any("vision" in parameter for parameter in trained)


def test_ia3_is_refused_before_anything_starts(tmp_path):
    name = saved(tmp_path, CONFIGS["lfm2"])
    with pytest.raises(BadInput, match=r"'lfm2', only in .*llama.*; use lora$"):
        check(sweep(Ia3Config(), name))
