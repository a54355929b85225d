"""Commands on a finished sweep: read it back, reproduce a trial, export it. Real commands."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
import yaml

from sweeps.commands.export import ExportOptions, export
from sweeps.commands.reproduce import reproduce
from sweeps.commands.steering import status
from sweeps.results.run_folder import Run
from sweeps.spec.deserialize import rebuild
from tests.support.driving import MINIATURES, sweep_here
from tests.support.miniature_kit import check_miniature
from tests.support.mlflow_pages import needs_chromium, served, text_at
from trainables.bad_input import BadInput
from trainables.models.loading import BUILTIN, load, tokenizer
from trainables.models.tokenization import encode_prompt


@pytest.fixture(scope="module")
def arena_sweep(tmp_path_factory, ray_session):
    """The arena in miniature, with finalists and a report, run once: the folder it was started in, and what it said."""
    folder, script = tmp_path_factory.mktemp("arena"), Path(__file__).parents[2] / "sweeps/arena.py"
    return folder, sweep_here(folder, *MINIATURES["arena"], script=script, report=True).stdout


@pytest.fixture(scope="module")
def arena(arena_sweep):
    return arena_sweep[0]


def test_the_arena_in_miniature(arena_sweep):
    check_miniature("arena", *arena_sweep)


def test_the_status_of_a_sweep_that_is_over_is_what_it_ended_with(arena_sweep, capsys):
    """The scores of the test split come first, because those of the search are luck in part."""
    folder, out = arena_sweep
    ended = out[out.index("\nfinalists, trained again") : out.index("train the winner again")]
    assert "gain " in ended
    status(folder / "runs/arena")
    assert capsys.readouterr().out.endswith(ended)


@needs_chromium
def test_mlflow_s_page_shows_the_sweep_at_the_address_that_it_ended_with(arena_sweep, tmp_path):
    """The first screen, on a real server: scores with intervals, learners, what differs, and how trials ended."""
    folder, out = arena_sweep
    address = re.search(r"http://127.0.0.1:5000(/#/\S+viewStateShareKey=\w{8})$", out, re.MULTILINE)
    run = Run.read(folder / "runs/arena")
    with served(folder) as port:
        page = text_at(f"http://127.0.0.1:{port}{address[1]}", tmp_path).splitlines()
    start = page.index("Group: arena")
    assert {"best_score", "interval", "test_score", "ended", "learner", "base", "differs"} <= set(page[:start])
    shown = page[start:]
    for one in run.records:
        assert f"arena {one.learner} {one.number}" in shown
        low, high = one.interval()
        assert f"{100 * low:.1f}-{100 * high:.1f}" in shown
        assert one.status in shown
    assert "arena" in shown, "the sweep's own run is beside its trials"
    assert shown.count("(the best)") == len({one.learner for one in run.records})
    assert f"{run.finals[0].score:.4f}" in shown


def test_a_folder_is_read_back(arena):
    run = Run.read(arena / "runs/arena")
    board = pd.read_csv(run.folder / "leaderboard.csv").sort_values("number")
    assert [one.score for one in run.records] == pytest.approx(board.score.tolist())
    assert [one.status for one in run.records] == board.status.tolist()
    assert [one.rounds for one in run.records] == board.rounds.tolist()
    for one in run.records:
        assert np.mean(one.items) == pytest.approx(one.score), "the items of the best round"
        low, high = one.interval()
        row = board[board.number == one.number].iloc[0]
        assert (low, high) == pytest.approx((row.low, row.high))
        assert one.history[-1]["trainable_parameters"] > 0
    names = [one.name for one in run.finals]
    assert "untouched base" in names
    assert len(names) >= 4, "the three defaults and the untouched base"
    for one in run.finals:
        seeds, asked = one.scores.shape
        assert (seeds == 1) if one.trial_id is None else (seeds >= 1)
        assert asked >= 30
        task = rebuild(run.facts).pairs[0].task
        questions = task.test_up_to(asked)[:asked]
        said = [task.score(e, text) for e, text in zip(questions, one.completions[0], strict=True)]
        assert sum(said) >= one.scores[0].sum(), "what was said is kept beside its score, truncated ones score 0"
    assert run.end["untouched"]["lora"]["score"] == run.end["baselines"]["untouched"]
    assert run.trial("best").trial_id == next(one.trial_id for one in run.finals if one.trial_id)
    config = yaml.safe_load((run.folder / "best/config.yaml").read_text())
    assert (config["trial_id"], config["split"], config["seed"]) == (run.trial("best").trial_id, "test", 1)


def test_the_winner_and_any_trial_are_trained_again_bit_for_bit(arena, capsys):
    reproduce(arena / "runs/arena")
    best = capsys.readouterr().out
    assert "every answer scored the same; the weights are bit for bit those in best/" in best
    reproduce(arena / "runs/arena", trial="0", to=arena / "again")
    other = capsys.readouterr().out
    assert "every answer scored the same" in other
    assert "reproduced: the score lies in the interval" in other
    assert list((arena / "again").rglob("*.safetensors"))


def test_a_score_that_was_made_up_is_not_reproduced(arena, tmp_path, capsys):
    folder = tmp_path / "made-up"
    shutil.copytree(arena / "runs/arena", folder)
    table = pd.read_parquet(folder / "finalists.parquet")
    table["score"] = np.where(table.trial_id.notna(), 1.0, table.score)
    table.to_parquet(folder / "finalists.parquet")
    with pytest.raises(SystemExit) as end:
        reproduce(folder)
    assert end.value.code == 1
    assert "not reproduced" in capsys.readouterr().out
    facts = yaml.safe_load((folder / "sweep.yaml").read_text())
    for pair in facts["sweep"]["pairs"]:
        pair["task"]["fields"]["seed"] = 99
    (folder / "sweep.yaml").write_text(yaml.safe_dump(facts))
    with pytest.raises(BadInput, match="go back to the data it had"):
        reproduce(folder)


def test_a_merged_model_says_what_the_trial_said(arena):
    """Without Espalier or PEFT: plain transformers, the finalist's own completions."""
    run = Run.read(arena / "runs/arena")
    final = next(one for one in run.finals if one.trial_id and run.trial(one.trial_id).learner == "lora")
    lora = run.trial(final.trial_id)
    export(run.folder, ExportOptions(to=arena / "merged", trial=str(lora.number), merge=True))
    model = transformers.AutoModelForCausalLM.from_pretrained(arena / "merged", dtype=torch.float32)  # as the sweep did
    reader = transformers.AutoTokenizer.from_pretrained(arena / "merged")
    base = load("builtin:tiny")
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), base.model.parameters(), strict=True))
    assert model.__class__.__module__.startswith("transformers.")
    chosen = run.answers[(run.answers.name == final.name) & (run.answers.seed == 0)].sort_values("item").head(5)
    for prompt, said in zip(chosen.prompt, chosen.completion, strict=True):
        asked = reader.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt"
        )["input_ids"]
        made = model.generate(asked, max_new_tokens=16, do_sample=False, pad_token_id=reader.eos_token_id)
        assert reader.decode(made[0, asked.shape[1] :], skip_special_tokens=True).strip() == said.strip()


@pytest.mark.parametrize("learner", ["lora", "soft_prompt", "hybrid", "merged"])
def test_the_cards_code_says_what_the_finalist_said(arena, tmp_path, monkeypatch, capsys, learner):
    """The code of the model card, pasted into a process that has only transformers and PEFT, from the folder above."""
    run = Run.read(arena / "runs/arena")
    kind = "lora" if learner == "merged" else learner
    final = next(one for one in run.finals if one.trial_id and run.trial(one.trial_id).learner == kind)
    export(run.folder, ExportOptions(to=tmp_path / "taken", trial=final.trial_id, merge=learner == "merged"))
    capsys.readouterr()
    code = (tmp_path / "taken/README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    known: dict = {}
    exec(code, known)
    of_it = run.answers[(run.answers.name == final.name) & (run.answers.seed == 0)].set_index("prompt")
    said = of_it.completion[known["question"]].strip()
    assert capsys.readouterr().out.splitlines()[-1] == said
    assert f"it answered {said!r}; right: " in code
    assert known["model"].dtype == torch.float32, "as it was trained here, and not as the base lies on disk"


def test_the_cards_prompt_is_that_of_training_on_any_day(arena, tmp_path, monkeypatch):
    """Where the chat template writes today's date, and nothing was trained today."""
    shutil.copytree(BUILTIN["tiny"], tmp_path / "dated")
    config = json.loads((tmp_path / "dated/tokenizer_config.json").read_text())
    reader = tokenizer("builtin:tiny")
    dated = "{{ strftime_now('%d %b %Y') }}" + reader.chat_template
    (tmp_path / "dated/tokenizer_config.json").write_text(json.dumps(config | {"chat_template": dated}))
    (tmp_path / "dated/chat_template.jinja").unlink(missing_ok=True)
    shutil.copytree(arena / "runs/arena", tmp_path / "run")
    facts = yaml.safe_load((tmp_path / "run/sweep.yaml").read_text())
    for pair in facts["sweep"]["pairs"]:
        pair["base"] = str(tmp_path / "dated")
    (tmp_path / "run/sweep.yaml").write_text(yaml.safe_dump(facts))
    export(tmp_path / "run", ExportOptions(to=tmp_path / "taken"))
    monkeypatch.chdir(tmp_path)
    known: dict = {}
    exec((tmp_path / "taken/README.md").read_text().split("```python\n")[1].split("```")[0], known)
    prompt = encode_prompt(tokenizer(str(tmp_path / "dated")), known["question"])
    assert reader.decode(prompt).startswith("26 Jul 2024")
    assert reader(known["text"], add_special_tokens=False).input_ids == prompt


def test_the_card_is_made_of_facts_and_a_registered_model_loads(arena, monkeypatch, capsys):
    monkeypatch.chdir(arena)  # where mlflow.db is
    export(arena / "runs/arena", ExportOptions(to=arena / "taken", register="arena-best"))
    assert "registered as arena-best, version 1" in capsys.readouterr().out
    assert not (arena / "taken/config.yaml").exists()
    head, card = (arena / "taken/README.md").read_text().split("---\n")[1:]
    assert yaml.safe_load(head)["library_name"] == "peft"
    assert "end = tokenizer.convert_tokens_to_ids('<|im_end|>')" in card
    run = Run.read(arena / "runs/arena")
    assert f"{100 * run.finals[0].scores[0].mean():.1f} % on the test split" in card
    assert run.facts["data_fingerprints"]["arena"] in card
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{arena}/mlflow.db")
    version = client.get_model_version("arena-best", "1")
    stored = Path(version.source.removeprefix("file://"))
    names = {path.relative_to(stored) for path in stored.rglob("*") if path.is_file()}
    assert Path("README.md") in names
    assert any(path.name == "adapter_config.json" for path in names)


def test_what_cannot_be_taken_away_is_said_in_one_line(arena):
    run = Run.read(arena / "runs/arena")
    prompt = next(one for one in run.records if one.learner == "soft_prompt")
    for flags, said in (
        ({"trial": str(prompt.number), "merge": True, "to": arena / "no"}, "cannot be merged"),
        ({"to": arena / "runs"}, "exists; give a new folder"),
        ({"trial": "77", "to": arena / "no"}, "no trial '77'"),
    ):
        with pytest.raises(BadInput, match=said):
            export(run.folder, ExportOptions(**flags))
        assert not (arena / "no").exists()
    with pytest.raises(BadInput, match="is not a sweep's folder"):
        reproduce(arena)
