"""Loading bases by name and folder, the dtype policy, safetensors only, and 4-bit on a CPU."""

from __future__ import annotations

import pytest
import torch

from tests.support import miniatures
from tests.support.toys import Letters
from trainables.core import Row
from trainables.learners.lm.ia3 import Ia3Config
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import Base, BaseName, UnknownBase, check_base, load
from trainables.packed.host import Host

ROWS = [Row((5, 6, 7, 20, 1), (False, False, False, True, True))]


@pytest.fixture
def folder(tmp_path):
    """A local model folder, as `save_pretrained` leaves it."""
    miniatures.model("llama").save_pretrained(tmp_path / "mini")
    miniatures.tokenizer().save_pretrained(tmp_path / "mini")
    load.cache_clear()
    yield tmp_path / "mini"
    load.cache_clear()


def test_a_local_folder_loads_frozen(folder):
    check_base(str(folder))
    base = load(str(folder))
    assert base.model.dtype == torch.float32
    assert not any(p.requires_grad for p in base.model.parameters())
    assert not base.model.training
    assert base.eos == 1


def test_dtype_by_option(folder):
    assert load(f"{folder}:bfloat16").model.dtype == torch.bfloat16


def test_nf4_on_cpu_trains_an_adapter(folder):
    """4-bit weights, float32 adapters, gradients in every layer after an evaluation; close to full precision."""
    full = load(str(folder))
    wanted = Host(full).logprobs(ROWS)[0]
    base = load(f"{folder}:nf4")
    assert base.model.model.layers[0].self_attn.q_proj.weight.dtype == torch.uint8
    host = Host(base)
    got = host.logprobs(ROWS)[0]  # an evaluation: bitsandbytes may change its weights' layout here
    assert not torch.equal(got, wanted), "quantization changes something"
    torch.testing.assert_close(got, wanted, atol=1.5, rtol=0.3)
    learner = LoraConfig(r=4, steps_per_round=1).build(base, Letters(), 0)
    host.open("a", learner)
    host.round("a")
    changed = {name: value for name, value in host.values("a").items() if name.endswith(".B")}
    assert len(changed) == 4
    assert all(value.any() for value in changed.values()), "a gradient reached every B"


def test_pickled_weights_are_refused(folder):
    """`pytorch_model.bin` can run code when it is read: safetensors only."""
    state = miniatures.model("llama").state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(UnknownBase, match="safetensors"):
        load(str(folder))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("builtin:huge", "built in: builtin:tiny"),
        ("none", "--base builtin:tiny"),
        ("some/model:int3", "nf4, remote-code"),
        ("some/model:float32:bfloat16", "one dtype"),
    ],
)
def test_bad_names_say_what_to_do(name, words):
    with pytest.raises(UnknownBase, match=words) as error:
        BaseName.parse(name)
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_bases_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnknownBase, match="neither a local folder nor a model") as error:
        check_base("nobody/has-this-model")
    assert "\n" not in str(error.value)
    with pytest.raises(UnknownBase, match=r"no config.json"):
        check_base(str(tmp_path))


def test_an_unknown_architecture_names_its_modules():
    class Config:
        model_type = "novel"

    model = torch.nn.Module()
    model.config = Config()
    model.wq = torch.nn.Linear(2, 2)
    with pytest.raises(UnknownBase, match=r"target_modules to some of \['wq'\], as in --set target_modules=wq$"):
        Base("x", model, None).target_modules()
    model.q_proj, model.v_proj = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert Base("x", model, None).target_modules() == ["q_proj", "v_proj"]


def test_ia3_names_the_architectures_that_it_knows():
    ours = miniatures.base("lfm2")
    with pytest.raises(ValueError, match=r"'lfm2', only in .*llama.*; use lora$"):
        Ia3Config().build(ours, Letters(), 0)
