"""A base is looked at before anything starts: each fault is told in one line, with its own remedy."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load as read
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertLMHeadModel,
    DeepseekV3Config,
    RwkvConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.support import miniatures
from tests.support.driving import sweep_here
from tests.support.miniature_kit import ROOT
from trainables.models.loading import UnknownBase, check_base, load

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 988097824\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A base without faults, as `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp("whole") / "base"
    miniatures.model("llama").save_pretrained(folder)
    miniatures.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def base(whole, tmp_path):
    """A copy of the base without faults; its name has a space."""
    return shutil.copytree(whole, tmp_path / "my base")


def told(folder):
    """Return what is said about a base, without its name."""
    with pytest.raises(UnknownBase) as caught:
        check_base(str(folder))
    line = str(caught.value)
    assert "\n" not in line
    assert "..." not in line.replace(" ...)", ""), "cut off"
    return line.removeprefix(f"base {str(folder)!r}: ")


def edit(path, **changes):
    """Change entries of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def weights(base, change):
    """Change the tensors of a base's weights."""
    tensors = read((base / "model.safetensors").read_bytes())
    save_file({name: value.contiguous() for name, value in change(tensors).items()}, base / "model.safetensors")


def in_shards(base, lost=False, listed=True):
    (base / "model.safetensors").unlink()
    miniatures.model("llama").save_pretrained(base, max_shard_size="20KB")
    (part, *_) = sorted(base.glob("model-*-of-*.safetensors"))
    if lost:
        part.unlink()
    if not listed:
        (base / "model.safetensors.index.json").unlink()


def only(base, **files):
    """Leave nothing but these files, name -> text."""
    shutil.rmtree(base)
    for name, text in files.items():
        path = base / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def pickled(base, name):
    torch.save(read((base / "model.safetensors").read_bytes()), base / name)


def planted(base, value, name="model.layers.1.mlp.up_proj.weight", place=(20, 3)):
    """Change a single number of a tensor."""

    def change(tensors):
        tensors[name][place] = value
        return tensors

    weights(base, change)


WEIGHTS = {
    "one NaN": (
        lambda base: planted(base, float("nan")),
        r"^model.safetensors: the tensor model.layers.1.mlp.up_proj.weight holds numbers that are NaN or inf.*; copy",
    ),
    "one infinite": (
        lambda base: planted(base, -float("inf")),
        "up_proj.weight holds numbers that are NaN or infinite",
    ),
    "pointer": (lambda base: (base / "model.safetensors").write_text(POINTER), "git lfs pull"),
    "web page": (lambda base: (base / "model.safetensors").write_text("<!DOCTYPE html>"), "a web page.*hf download"),
    "empty": (lambda base: (base / "model.safetensors").write_bytes(b""), "model.safetensors is empty"),
    "a few bytes": (
        lambda base: (base / "model.safetensors").write_bytes(b"abc"),
        "cut off or damaged: it has 3 bytes",
    ),
    "cut off": (lambda base: halve(base / "model.safetensors"), "is cut off: .* bytes; copy or download it again"),
    "a pickle": (lambda base: pickled(base, "model.safetensors"), "is no safetensors file but a pickle; only"),
    "shard lost": (lambda base: in_shards(base, lost=True), "1 of its .* files of weights are missing .model-00001-of"),
    "index lost": (lambda base: in_shards(base, listed=False), "model.safetensors.index.json, .* is missing"),
    "no weights": (lambda base: (base / "model.safetensors").unlink(), "it has no weights .model.safetensors.; copy"),
    "renamed": (
        lambda base: (base / "model.safetensors").rename(base / "mine.safetensors"),
        "mine.safetensors, .*rename",
    ),
    "no numbers": (lambda base: weights(base, lambda own: {"x": torch.zeros(0)}), "holds no weights"),
    "another size": (
        lambda base: edit(base / "config.json", intermediate_size=40),
        r"do not fit .*\(32, 48\), not \(32, 40\)",
    ),
    "no head": (
        lambda base: weights(base, lambda own: {name: own[name] for name in own if name != "lm_head.weight"}),
        r"lack 1 of \d+ tensors of LlamaForCausalLM \(lm_head.weight\); give the whole model",
    ),
    "another's names": (
        lambda base: weights(base, lambda own: {f"_orig_mod.{name}": own[name] for name in own}),
        r"lack \d+ of \d+ tensors .* and has _orig_mod",
    ),
}
CONFIGURATIONS = {
    "pointer": (lambda base: (base / "config.json").write_text(POINTER), "config.json is a pointer.*git lfs pull"),
    "no JSON": (lambda base: (base / "config.json").write_text("{{"), "config.json is no JSON .line 1: .*mend it"),
    "no object": (lambda base: (base / "config.json").write_text("[]"), "config.json holds no JSON object"),
    "no kind": (lambda base: edit(base / "config.json", model_type=None), "config.json has no model_type; copy"),
    "unknown kind": (lambda base: edit(base / "config.json", model_type="novel"), "does not know 'novel'; upgrade"),
    "code of its own": (
        lambda base: edit(base / "config.json", model_type="own", auto_map={"AutoConfig": "own.Own"}),
        "'own' is code in the model's own folder; read it, and add :remote-code",
    ),
    "pictures": (lambda base: edit(base / "config.json", model_type="vit"), "'vit' is no causal language model; give"),
    "gptq": (
        lambda base: edit(base / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        r"quantized \(gptq\): .*pip install.*; install that, or give the model without quantization",
    ),
    "awq": (
        lambda base: edit(base / "config.json", quantization_config={"quant_method": "awq", "bits": 4}),
        r"quantized \(awq\): .*pip install",
    ),
    "unknown method": (
        lambda base: edit(base / "config.json", quantization_config={"quant_method": "novel"}),
        "quantized by 'novel', which transformers does not know; give the model without quantization",
    ),
    "mlx": (lambda base: edit(base / "config.json", quantization={"bits": 4, "group_size": 64}), "another library"),
    "wrong type": (lambda base: edit(base / "config.json", hidden_size="wide"), "config.json"),
}
FOLDERS = {
    "empty": ({}, "the folder has no config.json|is empty"),
    "adapter": (
        {"adapter_config.json": json.dumps({"base_model_name_or_path": "x/y"})},
        "an adapter of 'x/y'; give that",
    ),
    "checkpoints": (
        {"checkpoint-10__config.json": "{}"},
        "checkpoints of a Trainer; give one of them: .*checkpoint-10",
    ),
    "adapters": ({"checkpoint-10__adapter_config.json": "{}"}, "checkpoints of an adapter; merge one"),
    "cache": ({"snapshots__abc__config.json": "{}"}, "the hub's cache; give the snapshot in it: .*abc"),
    "gguf": ({"q4.gguf": "GGUF"}, "a GGUF file; name it: .*q4.gguf"),
    "diffusion": ({"model_index.json": "{}"}, "a diffusion pipeline"),
    "publisher's": ({"params.json": "{}", "consolidated.00.pth": ""}, "its publisher's own format"),
    "deeper": ({"model__config.json": "{}"}, "give the folder in it that has one: .*model$"),
}
TOKENIZERS = {
    "none": (
        lambda base: [path.unlink() for path in base.glob("token*")],
        "it has no tokenizer .tokenizer.json.; copy",
    ),
    "pointer": (
        lambda base: (base / "tokenizer.json").write_text(POINTER),
        "tokenizer.json is a pointer.*git lfs pull",
    ),
    "cut off": (lambda base: halve(base / "tokenizer.json"), "tokenizer.json is no JSON"),
    "strange": (
        lambda base: (base / "tokenizer.json").write_text('{"model": 1}'),
        "cannot be read .*; copy the tokenizer",
    ),
    "settings": (lambda base: (base / "tokenizer_config.json").write_text("{"), "tokenizer_config.json is no JSON"),
    "no end": (
        lambda base: edit(base / "tokenizer_config.json", eos_token=None),
        "no end token .eos.*; set eos_token in",
    ),
    "another's": (
        lambda base: (
            edit(base / "config.json", vocab_size=20)
            or weights(
                base,
                lambda own: own | {name: own[name][:20] for name in ("model.embed_tokens.weight", "lm_head.weight")},
            )
        ),
        "its tokenizer has token 4. .*, and its vocabulary has 20; use the tokenizer that came",
    ),
    "broken template": (
        lambda base: (base / "chat_template.jinja").write_text("{% for %}"),
        "template refuses a question",
    ),
    "deaf template": (lambda base: (base / "chat_template.jinja").write_text("hello"), "leaves the question out"),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights(kind, base):
    spoil, words = WEIGHTS[kind]
    spoil(base)
    assert_told(base, words)


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_configurations(kind, base):
    spoil, words = CONFIGURATIONS[kind]
    spoil(base)
    assert_told(base, words)


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders_that_are_no_model(kind, tmp_path):
    files, words = FOLDERS[kind]
    (tmp_path / "base").mkdir()
    only(tmp_path / "base", **files)
    (tmp_path / "base").mkdir(exist_ok=True)
    assert_told(tmp_path / "base", words)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokenizers(kind, base):
    spoil, words = TOKENIZERS[kind]
    spoil(base)
    assert_told(base, words)


def assert_told(base, words):
    line = told(base)
    assert re.search(words, line), line


def test_pickles_name_the_conversion(base):
    pickled(base, "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    assert "weights are pickles (pytorch_model.bin); only safetensors is read" in told(base)


def test_an_adapter_beside_a_model(base):
    """transformers would load both, and the adapter's base from wherever the adapter says."""
    (base / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "x/y"}))
    assert told(base) == "holds an adapter beside a model; move its adapter_config.json away"


def test_paths_that_are_not_there(tmp_path):
    assert told(tmp_path / "nowhere") == "there is no such folder; check the path"
    (tmp_path / "file").write_text("?")
    assert told(tmp_path / "file").startswith("is a file; give the folder")


def test_other_kinds_of_language_models(tmp_path):
    common = {"vocab_size": 64, "num_layers": 1, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(**common, d_model=16, d_kv=8, d_ff=16)).save_pretrained(tmp_path / "t5")
    assert told(tmp_path / "t5") == "'t5' is an encoder-decoder; causal language models only"
    config = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertLMHeadModel(config).save_pretrained(tmp_path / "bert")
    miniatures.tokenizer().save_pretrained(tmp_path / "bert")
    assert told(tmp_path / "bert").startswith("'bert' is an encoder, which sees the words to come; causal")
    config = RwkvConfig(vocab_size=64, hidden_size=16, attention_hidden_size=16, num_hidden_layers=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "rwkv")
    miniatures.tokenizer().save_pretrained(tmp_path / "rwkv")
    assert told(tmp_path / "rwkv").startswith("'rwkv' cannot leave out padding")


def test_sizes_that_contradict_each_other(tmp_path):
    """Weights and configuration agree, and no text can pass through the model."""
    latent = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
    common = miniatures.COMMON | miniatures.DECODER | latent | experts | {"moe_intermediate_size": 16}
    for name, wrong in (("whole", {}), ("base", {"head_dim": 8})):
        config = DeepseekV3Config(**common, first_k_dense_replace=1, **wrong)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
        miniatures.tokenizer().save_pretrained(tmp_path / name)
    check_base(str(tmp_path / "whole"))
    assert told(tmp_path / "base").startswith("sizes in its config.json contradict each other (")


@pytest.mark.parametrize("family", [*miniatures.CONFIGS, "bloom"])
def test_bases_without_faults_pass(family, tmp_path, capfd):
    """In one file or in several, also with pickles beside them; nothing is printed."""
    miniatures.model(family).save_pretrained(tmp_path, max_shard_size="40KB")
    miniatures.tokenizer().save_pretrained(tmp_path)
    (tmp_path / "optimizer.pt").write_bytes(b"a checkpoint of a Trainer has one")
    (tmp_path / "pytorch_model.bin").write_bytes(b"some have both")
    capfd.readouterr()
    check_base(str(tmp_path))
    assert not capfd.readouterr().err


def test_more_special_tokens_than_the_embedding_has(base):
    """Gemma 3's text models have one for pictures, which no text makes."""
    reader = miniatures.tokenizer()
    reader.add_special_tokens({"additional_special_tokens": [f"<{i}>" for i in range(40)]})
    reader.save_pretrained(base)
    assert len(reader) > 64
    check_base(str(base))


def test_what_is_in_the_hubs_cache_is_looked_at(whole, tmp_path, monkeypatch):
    repository = tmp_path / "models--some--base"
    shutil.copytree(whole, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    check_base("some/base")
    halve(repository / "snapshots" / "abc" / "model.safetensors")
    with pytest.raises(UnknownBase, match=r"model.safetensors is cut off"):
        check_base("some/base")


def test_loading_gives_the_same_reasons(base):
    """Where a base was not looked at, or has changed since."""
    halve(base / "model.safetensors")
    with pytest.raises(UnknownBase, match=r"model.safetensors is cut off"):
        load(str(base))


@pytest.mark.parametrize(("row", "begins"), [(0, True), (47, True), (20, False)])
def test_of_a_large_base_a_sample_is_read_and_all_of_it_once_it_is_loaded(row, begins, base, monkeypatch):
    """A row of the matrix takes 128 bytes, and its share of 20 tensors is the first, the middle and the last row."""
    planted(base, float("nan"), place=(row, 3))
    monkeypatch.setattr("trainables.models.loading.SAMPLE", 20 * 400)
    if begins:
        assert "up_proj.weight holds numbers" in told(base)
        return
    check_base(str(base))
    with pytest.raises(UnknownBase, match=r"model.safetensors: the tensor .*up_proj.weight holds numbers that are NaN"):
        load(str(base))


def test_numbers_that_a_dtype_cannot_hold_are_told_when_they_are_loaded(base):
    planted(base, 1e6)
    load(f"{base}:bfloat16")
    with pytest.raises(
        UnknownBase, match=r"its files are sound, but .*up_proj.weight are too large for float16; use :f"
    ):
        load(f"{base}:float16")


@pytest.mark.parametrize("more", [[], ["--plan"]])
def test_a_sweep_ends_before_it_starts(more, base):
    (base / "model.safetensors").write_text(POINTER)
    flags = ["--base", str(base), "--learner", "lora", *more]
    done = sweep_here(base.parent, *flags, script=ROOT / "sweeps" / "arena.py", check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        f"arena.py: base {str(base)!r}: model.safetensors is a pointer of Git LFS, not the file itself; run `git lfs"
        " pull` in its folder"
    ]
    assert not (base.parent / "runs").exists()
