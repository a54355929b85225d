"""`run(sweep)` from a program: its tables, its verdict and its winner as a model, of one real sweep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch

from sweeps.commands.result import Result
from sweeps.results.run_folder import Run
from tests.support.driving import command_here, script_here, sweep_here
from tests.support.json_kit import checked
from trainables.models.loading import tokenizer

PROGRAM = """
import json
from dataclasses import replace
from sweeps.arena import SWEEP
from sweeps.cli.main import run
from trainables.tasks.arena.task import ArenaTask

task = ArenaTask(train_size=40, search_size=30, test_size=30)
sweep = replace(SWEEP, pairs=tuple(replace(pair, task=task) for pair in SWEEP.pairs))
result = run(sweep, name="mine", learner=["lora"], num_samples=2, rounds=2, grace_period=1, finalists=1,
             set=["steps_per_round=4"], report=False)
print("RESULT", json.dumps([str(result.folder), result.ended, len(result.trials), result.finalists.name.tolist(),
                            result.verdict]))
"""


@pytest.fixture(scope="module")
def programmed(tmp_path_factory, ray_session):
    """The folder in which a program ran a sweep, and what it said of the result."""
    folder = tmp_path_factory.mktemp("programmed")
    (folder / "program.py").write_text(PROGRAM)
    out = script_here(folder, folder / "program.py").stdout
    return folder, json.loads(out[out.index("RESULT ") :].removeprefix("RESULT "))


def test_a_program_gets_its_sweep_s_result(programmed):
    folder, (where, ended, trials, names, verdict) = programmed
    assert (where, ended, trials) == ("runs/mine", "finished", 2)
    run = Run.read(folder / where)
    assert names == [one.name for one in run.finals]
    winner, tied, sentences = verdict
    assert tied[0] == run.finals[0].name
    assert winner == (tied[0] if len(tied) == 1 else None)
    assert all(line in (folder / where / "leaderboard.md").read_text() for line in sentences)


def test_the_tables_of_a_folder_are_those_of_the_sweep(programmed):
    result = Result.of(programmed[0] / "runs/mine")
    run = result.run
    best = max(run.records, key=lambda one: one.score)
    assert result.trials.score.max() == best.score
    assert result.trials.set_index("number").params_r.to_dict() == {o.number: o.params.fields["r"] for o in run.records}
    first, bounds = run.finals[0], run.confirmation.bounds()
    row = result.finalists.iloc[0]
    assert (row["name"], row.score, row.seeds) == (first.name, first.score, len(first.scores))
    assert (row.low, row.high) == bounds[first.name]


def test_the_best_is_a_peft_model_that_says_what_the_finalist_said(programmed):
    result = Result.of(programmed[0] / "runs/mine")
    model, reader = result.best, tokenizer("builtin:tiny")
    assert isinstance(model, peft.PeftModel)
    final = next(one for one in result.run.finals if one.trial_id)
    answers = result.run.answers
    chosen = answers[(answers.name == final.name) & (answers.seed == 0)].sort_values("item").head(5)
    for prompt, said in zip(chosen.prompt, chosen.completion, strict=True):
        asked = reader.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt"
        )["input_ids"]
        with torch.no_grad():
            made = model.generate(input_ids=asked, max_new_tokens=16, do_sample=False, pad_token_id=reader.eos_token_id)
        assert reader.decode(made[0, asked.shape[1] :], skip_special_tokens=True).strip() == said.strip()


def test_what_real_sweeps_and_plans_print_as_json_fits_the_schema(programmed):
    folder, _ = programmed
    run = Run.read(folder / "runs/mine")
    status = checked(command_here(folder, "status", "runs/mine", "--json").stdout, "status")
    assert [one["score"] for one in status["finalists"]] == pytest.approx([one.score for one in run.finals])
    board = checked(command_here(folder, "leaderboard", "--json").stdout, "leaderboard")
    assert [one["rank"] for one in board["trials"]] == sorted(one["rank"] for one in board["trials"])
    assert {one["number"]: np.round(one["score"], 6) for one in board["trials"]} == {
        one.number: np.round(one.score, 6) for one in run.records
    }
    arena = Path(__file__).parents[2] / "sweeps/arena.py"
    planned = sweep_here(folder, "--plan", "--json", "--learner", "lora", "--set", "steps_per_round=4", script=arena)
    plan = checked(planned.stdout, "plan")
    assert plan["hours"] > 0
    assert plan["sweeps"][0]["probes"]["lora"]["round_s"] > 0
    assert "estimate: " in planned.stderr
