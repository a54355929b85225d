"""An export is taken as it is: by PEFT and transformers, by the rules of vLLM and Ollama, and by the hub.

docs/how-to/export.md lists what these tests check. The tools that are slow to import are in tests/e2e/test_exports.py.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import peft
import pytest
import torch
import transformers
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.utils import validate_repo_id
from pydantic import BaseModel, ValidationError

from search_spaces import dora, full, ia3, lora, qlora, soft_prompt
from search_spaces.space import Space
from sweeps.commands.export import ExportOptions, export
from sweeps.commands.reproduce import reproduce
from sweeps.results.run_folder import SWEEP_FILE
from sweeps.spec.sweep import Sweep
from tests.support.commands_kit import TASK, make_run
from trainables.bad_input import BadInput
from trainables.core import LearnerConfig, Pair
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.ia3 import Ia3Config
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.qlora import QloraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.loading import BUILTIN, load, tokenizer
from trainables.models.sampling import with_adapter
from trainables.runtime.trial import open_learner

ADAPTERS: dict[str, tuple[type[Any], Space]] = {
    "lora": (LoraConfig, lora.SPACE),
    "dora": (DoraConfig, dora.SPACE),
    "ia3": (Ia3Config, ia3.SPACE),
    "soft_prompt": (SoftPromptConfig, soft_prompt.SPACE),
    "qlora": (QloraConfig, qlora.SPACE),
}
QUESTION = "Is a circle round?"


def trained(folder: Path, config: LearnerConfig, space: Space, base: str = "builtin:tiny") -> Path:
    """Write the folder of a sweep whose winner took one step on `base`."""
    pair = Pair(config, TASK, base)
    learner = open_learner(pair, seed=1)
    learner.round()
    (folder / "adapter").mkdir(parents=True)
    learner.save(str(folder / "adapter"))
    learner.close()
    load.cache_clear()
    make_run(folder / "run", folder / "adapter", Sweep("run", (pair,), space, finalists=0))
    shutil.rmtree(folder / "adapter")
    return folder / "run"


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on all linear layers, with an alpha that is no whole number."""
    config = LoraConfig(steps_per_round=1, learning_rate=0.01, lora_alpha=12.5, target_modules=("all-linear",))
    return trained(tmp_path_factory.mktemp("lora"), config, lora.SPACE)


@pytest.fixture(scope="module")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("full"), FullConfig(steps_per_round=1, learning_rate=1e-3), full.SPACE)


def asked(reader: Any) -> torch.Tensor:
    turns = [{"role": "user", "content": QUESTION}]
    return reader.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")["input_ids"]


def logits(model: Any, reader: Any) -> torch.Tensor:
    """What a model makes of the question, (1, tokens, vocabulary); a soft prompt's own tokens are left out."""
    with torch.no_grad():
        return model(input_ids=asked(reader)).logits.float()[:, -asked(reader).shape[1] :]


def of_the_sweep(run: Path, base: str = "builtin:tiny") -> torch.Tensor:
    """What the trained model says where it was trained."""
    model = with_adapter(base, run / "best")
    found = logits(model.model, model.tokenizer)
    load.cache_clear()
    return found


def card_of(folder: Path) -> ModelCard:
    """The card, of which the hub reads the front matter: it takes no base that is not the name of a repository."""
    card = ModelCard((folder / "README.md").read_text())
    facts = card.data.to_dict()
    assert all(isinstance(tag, str) for tag in facts["tags"])
    if facts.get("base_model"):
        validate_repo_id(facts["base_model"])
        assert not facts["base_model"].startswith((".", "/"))
    return card


@pytest.mark.parametrize("name", ADAPTERS)
def test_peft_and_transformers_load_an_adapter_by_its_folder_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its base, which is not on the hub, lies beside it, and its name is no path of this machine."""
    config, space = ADAPTERS[name]
    base = "builtin:tiny:nf4" if name == "qlora" else "builtin:tiny"
    run = trained(tmp_path, config(steps_per_round=1, learning_rate=0.01), space, base)
    export(run, ExportOptions(to=tmp_path / "taken"))
    assert "its base is not on the hub and was copied, too (" in capsys.readouterr().out
    assert not any(str(tmp_path) in path.read_text() for path in (tmp_path / "taken").rglob("*.json"))
    assert str(BUILTIN["tiny"]) not in (tmp_path / "taken/README.md").read_text()
    monkeypatch.chdir(tmp_path)
    reader = transformers.AutoTokenizer.from_pretrained("taken")
    assert reader.chat_template == tokenizer("builtin:tiny").chat_template
    assert torch.equal(asked(reader), asked(tokenizer("builtin:tiny")))
    model = peft.AutoPeftModelForCausalLM.from_pretrained("taken", dtype=torch.float32)
    untouched = transformers.AutoModelForCausalLM.from_pretrained("taken/base", dtype=torch.float32)
    got = logits(model, reader)
    if name != "qlora":  # which was trained against rounded weights
        torch.testing.assert_close(got, of_the_sweep(run), atol=1e-4, rtol=1e-4)
    assert float((got - logits(untouched, reader)).abs().max()) > 1e-3, "the adapter does something"
    assert card_of(tmp_path / "taken").data.to_dict()["library_name"] == "peft"
    if name == "lora":
        made = transformers.pipeline("text-generation", "taken")(QUESTION, max_new_tokens=4, do_sample=False)
        assert made[0]["generated_text"].startswith(QUESTION)


class Ollama(BaseModel, strict=True):
    """What Ollama reads of `adapter_config.json` (convert/convert.go, AdapterParameters): unsigned whole numbers."""

    lora_alpha: int


class Vllm(BaseModel, strict=True):
    """What vLLM reads and accepts of it (vllm/lora/peft_helper.py, PEFTHelper; r: vllm/config/lora.py)."""

    r: int
    lora_alpha: int
    target_modules: list[str]
    bias: Literal["none"]
    modules_to_save: None
    use_rslora: Literal[False]
    use_dora: Literal[False]
    lora_bias: Literal[False]
    init_lora_weights: Literal[True]
    alora_invocation_tokens: None
    layer_replication: None
    use_bdlora: None
    use_qalora: Literal[False]
    base_model_name_or_path: str


def test_vllm_and_ollama_accept_the_configuration_of_a_lora(lora_run: Path, tmp_path: Path) -> None:
    """Also with a scale that is no whole number: the weights take the difference."""
    export(lora_run, ExportOptions(to=tmp_path / "taken"))
    text = (tmp_path / "taken/adapter_config.json").read_text()
    facts = json.loads(text)
    assert [*facts] == sorted(facts)
    assert Ollama.model_validate_json(text).lora_alpha == 12
    read = Vllm.model_validate_json(text)
    assert 0 < read.r <= 512
    assert read.target_modules == sorted(read.target_modules)
    assert all(name.isidentifier() for name in read.target_modules)
    assert read.base_model_name_or_path == "./taken/base"
    before = (lora_run / "best/adapter_config.json").read_text()
    for schema in (Ollama, Vllm):
        with pytest.raises(ValidationError, match="lora_alpha"):
            schema.model_validate_json(before)
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "taken/base", dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "taken")
    got = logits(model, tokenizer("builtin:tiny"))
    torch.testing.assert_close(got, of_the_sweep(lora_run), atol=1e-4, rtol=1e-4)


def test_a_merged_model_has_its_bases_dtype_and_what_transformers_needs(lora_run: Path, tmp_path: Path) -> None:
    export(lora_run, ExportOptions(to=tmp_path / "taken", merge=True))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "taken")
    assert model.dtype == torch.bfloat16
    sizes = [
        path.stat().st_size for path in (tmp_path / "taken/model.safetensors", BUILTIN["tiny"] / "model.safetensors")
    ]
    assert sizes[0] < 1.1 * sizes[1]
    wanted, got = of_the_sweep(lora_run), logits(model.float(), tokenizer("builtin:tiny"))
    assert torch.equal(got.argmax(-1), wanted.argmax(-1))
    torch.testing.assert_close(got, wanted, atol=0.3, rtol=0.05)  # each weight is rounded to 8 bits, once
    check_whole(tmp_path / "taken")


def check_whole(folder: Path) -> None:
    """A whole model: of transformers' library, with its tokenizer and the token with which answers end."""
    reader = transformers.AutoTokenizer.from_pretrained(folder)
    assert torch.equal(asked(reader), asked(tokenizer("builtin:tiny")))
    ends = transformers.GenerationConfig.from_pretrained(folder).eos_token_id
    assert reader.convert_tokens_to_ids("<|im_end|>") in (ends if isinstance(ends, list) else [ends])
    assert json.loads((folder / "config.json").read_text())["transformers_version"]
    assert card_of(folder).data.to_dict()["library_name"] == "transformers"


@pytest.mark.parametrize("merge", [False, True], ids=["as it was trained", "in the base's dtype"])
def test_a_model_of_full_fine_tuning_is_whole(full_run: Path, tmp_path: Path, merge: bool) -> None:
    export(full_run, ExportOptions(to=tmp_path / "taken", merge=merge))
    check_whole(tmp_path / "taken")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "taken")
    assert model.dtype == (torch.bfloat16 if merge else torch.float32)
    assert "from peft import" not in (tmp_path / "taken/README.md").read_text()


def on_a_copy(run: Path, tmp_path: Path, base: str) -> Path:
    """Let a sweep's base be another string."""
    shutil.copytree(run, tmp_path / "run")
    facts = yaml.safe_load((tmp_path / "run" / SWEEP_FILE).read_text())
    facts["sweep"]["pairs"][0]["base"] = base
    (tmp_path / "run" / SWEEP_FILE).write_text(yaml.safe_dump(facts))
    return tmp_path / "run"


def test_a_base_on_the_hub_is_named(lora_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By --base, or as it lies in the hub's cache. Nothing of it is copied."""
    cached = tmp_path / "hub/models--someone--small/snapshots/0123abc"
    shutil.copytree(BUILTIN["tiny"], cached)
    for given, run in (("someone/small", lora_run), (None, on_a_copy(lora_run, tmp_path, str(cached)))):
        shutil.rmtree(tmp_path / "taken", ignore_errors=True)
        export(run, ExportOptions(to=tmp_path / "taken", base=given))
        assert (
            json.loads((tmp_path / "taken/adapter_config.json").read_text())["base_model_name_or_path"]
            == "someone/small"
        )
        card = card_of(tmp_path / "taken")
        assert card.data.to_dict()["base_model"] == "someone/small"
        assert "AutoModelForCausalLM.from_pretrained('someone/small', dtype=" in card.content
        assert not (tmp_path / "taken/base").exists()
    assert "was copied" not in capsys.readouterr().out
    with pytest.raises(BadInput, match="--base /models/mine is not the name of a model on the hub; give OWNER/NAME"):
        export(lora_run, ExportOptions(to=tmp_path / "other", base="/models/mine"))


def test_a_base_that_has_moved_is_missing_and_said_to_be(
    lora_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = on_a_copy(lora_run, tmp_path, str(tmp_path / "gone"))
    export(run, ExportOptions(to=tmp_path / "taken"))
    said = capsys.readouterr().out
    assert f"its base gone is not on this machine: put it into {tmp_path}/taken/base, or name it with --base" in said
    assert str(tmp_path) not in (tmp_path / "taken/README.md").read_text()
    assert "put it into `base/`" in (tmp_path / "taken/README.md").read_text()


def test_only_the_files_of_a_model_are_copied_and_no_links(lora_run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(BUILTIN["tiny"], mine)
    (mine / "secret.txt").write_text("mine")
    run = on_a_copy(lora_run, tmp_path, str(mine))
    export(run, ExportOptions(to=tmp_path / "taken"))
    copied = {path.name for path in (tmp_path / "taken/base").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= copied
    assert "secret.txt" not in copied
    (mine / "generation_config.json").unlink(missing_ok=True)
    os.symlink(mine / "secret.txt", mine / "tokenizer_notes")
    with pytest.raises(BadInput, match=r"tokenizer_notes is a symbolic link to .* or name it with --base"):
        export(run, ExportOptions(to=tmp_path / "again"))
    assert not (tmp_path / "again").exists()


def test_data_that_has_moved_is_needed_for_training_only(
    lora_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = on_a_copy(lora_run, tmp_path, "builtin:tiny")
    facts = yaml.safe_load((run / SWEEP_FILE).read_text())
    facts["sweep"]["pairs"][0]["task"]["fields"]["data"] = str(tmp_path / "moved.json")
    (run / SWEEP_FILE).write_text(yaml.safe_dump(facts))
    export(run, ExportOptions(to=tmp_path / "taken"))
    said = "The card asks no question as an example: the sweep's data is not where it was, or is another now."
    assert said in capsys.readouterr().out
    assert f"# {said}" in (tmp_path / "taken/README.md").read_text()
    with pytest.raises(BadInput) as error:
        reproduce(run)
    assert "moved.json" in str(error.value)
    assert "\n" not in str(error.value)
