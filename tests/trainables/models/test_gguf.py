"""Bases from GGUF files that the tests write: equal models, refused files, and the cache."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.support import gguf_kit
from tests.support.toys import Letters
from trainables.core import Row
from trainables.learners.lm.lora import LoraConfig
from trainables.models import gguf
from trainables.models.chat_template import rendered
from trainables.models.loading import UnknownBase, base_sizes, check_base, load, pin, tokenizer
from trainables.models.tokenization import encode_prompt
from trainables.packed.host import Host

pytestmark = pytest.mark.usefixtures("own_cache")
TOKENS = torch.tensor([[1, 50, 90, 120, 7, 33, 2, 1, 200, 261]])


@pytest.fixture(autouse=True)
def _no_cached_base():
    yield
    load.cache_clear()


def cached() -> list[str]:
    """The names of everything in the cache that a killed or failed process could have left, but the index of hashes."""
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "espalier/gguf"
    return sorted(path.name for path in folder.glob("*") if path.name != "hashes.json" and path.suffix != ".lock")


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_file_in_float32_is_the_model_that_it_was_written_from(tmp_path, family, tied):
    wanted = gguf_kit.model(family, tied)
    name = str(gguf_kit.write(tmp_path / "mini.gguf", wanted))
    base = load(name)
    assert torch.equal(base.model(TOKENS).logits, wanted(TOKENS).logits)
    assert (base.model.get_output_embeddings().weight is base.model.get_input_embeddings().weight) == tied
    assert base_sizes(name)[2] == sum(parameter.numel() for parameter in wanted.parameters())
    assert base.model.config.to_dict().get("quantization_config") is None


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_quantized_file_is_near_that_model(tmp_path, family):
    wanted = gguf_kit.model(family)
    name = str(gguf_kit.write(tmp_path / "mini.gguf", wanted, "Q8_0"))
    base = load(name)
    got, exact = base.model(TOKENS).logits, wanted(TOKENS).logits
    assert not torch.equal(got, exact)
    assert float((got - exact).abs().max()) < 0.2 * float(exact.std())
    assert load(f"{name}:bfloat16").model.dtype == torch.bfloat16
    assert load(f"{name}:nf4").model.model.layers[0].self_attn.q_proj.weight.dtype == torch.uint8


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_its_tokenizer_has_the_template_and_ends_answers_where_the_template_does(tmp_path, family):
    path = gguf_kit.write(tmp_path / "mini.gguf", gguf_kit.model(family))
    ours, wanted = tokenizer(str(path)), gguf_kit.tokenizer()
    text = rendered(ours, [{"role": "user", "content": "in the others, a theme"}])
    assert text == rendered(wanted, [{"role": "user", "content": "in the others, a theme"}])
    assert text.startswith("<|im_start|>user\n")
    assert encode_prompt(ours, "in the others, a theme") == encode_prompt(wanted, "in the others, a theme")
    assert load(str(path)).eos == 2
    (folder,) = (entry.folder for entry in gguf.entries())
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 2


def test_llama_3s_scaling_of_positions_is_kept(tmp_path):
    wanted, factors = gguf_kit.llama3(32.0)
    assert factors.min() == 1 < factors.max()
    path = gguf_kit.write(tmp_path / "mini.gguf", wanted, rope_freqs__weight=factors)
    torch.testing.assert_close(load(str(path)).model(TOKENS).logits, wanted(TOKENS).logits)
    other = gguf_kit.write(tmp_path / "other.gguf", wanted, rope_freqs__weight=factors[::-1].copy())
    with pytest.raises(UnknownBase, match="scales positions in a way"):
        check_base(str(other))


def test_it_is_read_once_and_kept_by_its_content(tmp_path, capsys):
    path = gguf_kit.write(tmp_path / "mini.gguf", gguf_kit.model("llama"))
    check_base(str(path))
    said = capsys.readouterr().out
    assert said.startswith("dequantizing mini.gguf, once, into ")
    assert said.endswith(" s\n")
    assert said.count("\n") == 1
    (entry,) = gguf.entries()
    assert (entry.file, entry.folder.name) == ("mini.gguf", f"{gguf.hash_of(path)}-{gguf.FORMAT}")
    assert entry.size == sum(file.stat().st_size for file in entry.folder.iterdir())
    times = {file: file.stat().st_mtime_ns for file in entry.folder.iterdir()}
    other = path.rename(tmp_path / "same.gguf")
    check_base(f"{tmp_path}:gguf=same.gguf:bfloat16")
    check_base(str(other))
    assert capsys.readouterr().out == ""
    assert {file: file.stat().st_mtime_ns for file in entry.folder.iterdir()} == times


def test_a_file_of_another_content_is_another_base(tmp_path):
    path = gguf_kit.write(tmp_path / "mini.gguf", gguf_kit.model("llama"))
    pinned = pin(str(path))
    assert pinned == pin(pinned) == f"{path}:sha256={gguf.hash_of(path)}"
    first = load(pinned).model(TOKENS).logits
    gguf_kit.write(path, gguf_kit.model("llama", tied=False))
    assert pin(str(path)) != pinned
    for refuse in (pin, check_base):
        with pytest.raises(UnknownBase, match="the file is another now") as error:
            refuse(pinned)
        assert "\n" not in str(error.value)
    path.unlink()
    load.cache_clear()
    assert torch.equal(load(pinned).model(TOKENS).logits, first), "a worker needs the model in its cache, not the file"


def test_a_file_on_the_hub(tmp_path, monkeypatch):
    """As the hub's client keeps it after a download, without a network."""
    hub = tmp_path / "models--owner--name"
    (hub / "snapshots/abc/q8").mkdir(parents=True)
    (hub / "refs").mkdir()
    (hub / "refs/main").write_text("abc")
    path = gguf_kit.write(hub / "snapshots/abc/q8/mini.gguf", gguf_kit.model("qwen2"), "Q8_0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    base = load("owner/name:gguf=q8/mini.gguf:float32")
    assert base.model.name_or_path == f"owner/name:gguf=q8/mini.gguf:sha256={gguf.hash_of(path)}"
    load.cache_clear()
    assert torch.equal(load(str(path)).model(TOKENS).logits, base.model(TOKENS).logits)
    with pytest.raises(UnknownBase, match=r"the hub was not reached for 'other.gguf'"):
        check_base("owner/name:gguf=other.gguf")


def check_beside(base: str, said: Path) -> None:
    torch.set_num_threads(1)  # a forked process has lost the threads of this one
    with said.open("w") as out, contextlib.redirect_stdout(out):
        check_base(base)


def test_two_processes_make_it_once(tmp_path):
    path = gguf_kit.write(tmp_path / "mini.gguf", gguf_kit.model("llama"))
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=check_beside, args=(str(path), tmp_path / f"said-{number}")) for number in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(timeout=300)
    assert [process.exitcode for process in both] == [0, 0]
    assert "".join(file.read_text() for file in tmp_path.glob("said-*")).count("dequantizing") == 1
    assert cached() == [f"{gguf.hash_of(path)}-{gguf.FORMAT}"]


def test_adapters_name_the_file_and_its_hash(tmp_path):
    path = gguf_kit.write(tmp_path / "mini.gguf", gguf_kit.model("llama"))
    host = Host(load(str(path)))
    learner = LoraConfig(r=2).build(host.base, Letters(), 0)
    host.open("a", learner, 0)
    host.save("a", str(tmp_path / "adapter"))
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"{path}:sha256={gguf.hash_of(path)}"
    whole = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="mini.gguf", dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(whole, tmp_path / "adapter")
    wanted = Host(load(str(path))).logprobs([Row(tuple(TOKENS[0].tolist()), (False, *[True] * 9))])[0]
    got = adapted(TOKENS).logits.log_softmax(-1)[0, :-1].gather(1, TOKENS[0, 1:, None])[:, 0]
    torch.testing.assert_close(got, wanted[-9:], atol=1e-4, rtol=1e-4)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut short":
        path.write_bytes(content[: len(content) - 5000])
    elif how == "cut in its header":
        path.write_bytes(content[:3000])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no GGUF":
        path.write_bytes(b"PK" + content[2:])
    elif how == "not finite":
        path.write_bytes(content[:-4] + np.float32("nan").tobytes())


@pytest.mark.parametrize("how", ["cut short", "cut in its header", "empty", "no GGUF", "not finite"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, how, capsys):
    path = gguf_kit.write(tmp_path / "mini.gguf", gguf_kit.model("llama", tied=False))
    damage(path, how)
    with pytest.raises(UnknownBase, match=r"fetch it again") as error:
        check_base(str(path))
    assert str(error.value).startswith(f"base {str(path)!r}: the file ")
    assert "\n" not in str(error.value)
    assert cached() == []
    assert capsys.readouterr().err == ""


def test_what_transformers_does_not_read_is_refused(tmp_path):
    ours = gguf_kit.model("llama")
    unknown = gguf_kit.write(tmp_path / "unknown.gguf", ours, architecture="novelarch")
    with pytest.raises(UnknownBase, match="novelarch"):
        check_base(str(unknown))
    more = gguf_kit.write(tmp_path / "more.gguf", ours, blk__0__attn_q__bias=np.ones(64, np.float32))
    with pytest.raises(UnknownBase, match=r"has 78,784 weights, and transformers' LlamaForCausalLM takes 78,720"):
        check_base(str(more))
    kind = gguf_kit.gguf.GGMLQuantizationType
    path = gguf_kit.write(tmp_path / "kind.gguf", ours, "Q8_0")
    old, new = (np.uint32(one).tobytes() for one in (kind.Q8_0, 250))
    content = path.read_bytes()
    place = content.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 2 * 8
    assert content[place : place + 4] == old
    path.write_bytes(content[:place] + new + content[place + 4 :])
    with pytest.raises(UnknownBase, match="250"):
        check_base(str(path))
    assert cached() == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere/x.gguf", "there is no file .*nowhere/x.gguf"),
        ("builtin:tiny:gguf=x.gguf", "no GGUF file"),
        ("builtin:smollm2:gguf=x.gguf", "its file is SmolLM2-135M-Instruct.Q4_1.gguf"),
        ("a.gguf:gguf=b.gguf", "two GGUF files"),
        ("owner/name:sha256=00", "no GGUF file"),
        ("owner/name:gguf=x.gguf", "the hub was not reached for 'x.gguf'"),
    ],
)
def test_bad_names_say_what_to_do(name, words, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnknownBase, match=words) as error:
        check_base(name)
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_packages_are_named(tmp_path, monkeypatch):
    path = gguf_kit.write(tmp_path / "mini.gguf", gguf_kit.model("llama"))
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(UnknownBase, match=r"run `pip install gguf`$"):
        check_base(str(path))
    with pytest.raises(UnknownBase, match=r"run `make smollm2`, or give --base$"):
        check_base("builtin:smollm2")


def test_a_cache_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    path = gguf_kit.write(tmp_path / "mini.gguf", gguf_kit.model("llama"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UnknownBase, match=r"cannot be written to .*set XDG_CACHE_HOME to another folder"):
        check_base(str(path))
