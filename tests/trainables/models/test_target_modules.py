"""Modules that LoRA adapts: a base that lacks one is refused before anything starts, for every learner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import GPT2Config, PersimmonConfig

from search_spaces.space import Space
from sweeps.arena import SWEEP as ARENA
from sweeps.spec.validation import BadInput
from sweeps.tuning.session import check
from tests.support.miniatures import CONFIGS, base
from trainables.core import Adapter
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.qlora import QloraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.loading import base_sizes
from trainables.models.peft_adapters import initial_adapter

ROOT = Path(__file__).parents[3]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}


def sweep(learner, base, seats="auto"):
    pair = replace(ARENA.pairs[0], learner=learner, base=base)
    return replace(ARENA, pairs=(pair,), optional=(), space=Space({}), seats=seats)


@pytest.fixture
def persimmon(tmp_path):
    """Return a base of an architecture without default targets, without weights."""
    PersimmonConfig(vocab_size=64, **SHAPE).save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("config", "seats"), [(LoraConfig, 1), (LoraConfig, "auto"), (DoraConfig, 1), (HybridConfig, 1)]
)
def test_targets_that_a_base_lacks_are_told_before_anything_starts(config, seats, persimmon):
    """Also if others of the names are right, and where the defaults are what it lacks."""
    learner = config(target_modules=("q_proj", "v_porj"))
    with pytest.raises(BadInput, match="'builtin:tiny': no module 'v_porj' for LoRA; set target_modules to") as error:
        check(sweep(learner, "builtin:tiny", seats))
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match="no default LoRA targets for 'persimmon'; set target_modules to"):
        check(sweep(config(), persimmon, seats))


@pytest.mark.parametrize(
    "learner", [SoftPromptConfig(), QloraConfig(), LoraConfig(target_modules=("self_attn.dense", "query_key_value"))]
)
def test_who_needs_no_default_targets_may_start(learner, persimmon):
    check(sweep(learner, persimmon))


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


def test_a_base_with_code_of_its_own_is_outlined_by_that_code(tmp_path):
    """In a process that keeps its copy of the code elsewhere than in the user's cache."""
    config = 'class Own(LlamaConfig):\n    model_type = "own"\n'
    model = "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = Own\n"
    (tmp_path / "own.py").write_text(f"from transformers import LlamaConfig, LlamaForCausalLM\n{config}{model}")
    where = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    facts = {"model_type": "own", "vocab_size": 64, "auto_map": where}
    (tmp_path / "config.json").write_text(json.dumps(facts | SHAPE))
    call = (
        "import sys; from trainables.models.loading import base_sizes; print(base_sizes(sys.argv[1], ('q_proj',))[1])"
    )
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-c", call, f"{tmp_path}:remote-code"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == str(32 + 32)
